"""Metrics of predictions, by name; scikit-learn computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

Metric = Callable[[Sequence[str], Sequence[str]], float]


def macro_f1(targets: Sequence[str], predictions: Sequence[str]) -> float:
    """The mean over classes of each one's F1."""
    return float(f1_score(targets, predictions, average="macro"))


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> float:
    """The share of texts that are the same but for case and white space.

    >>> exact_match(["9 apples", "3"], ["9  Apples", "4"])
    0.5
    """
    pairs = zip(targets, predictions, strict=True)
    return sum(a.lower().split() == b.lower().split() for a, b in pairs) / len(targets)


# Each takes (targets, predictions) and gives a share, 1 being perfect.
METRICS: dict[str, Metric] = {
    "accuracy": lambda targets, predictions: float(accuracy_score(targets, predictions)),
    "exact_match": exact_match,
    "macro_f1": macro_f1,
    "matthews": lambda targets, predictions: float(matthews_corrcoef(targets, predictions)),
}


def standard_error(share: float, count: int) -> float:
    """The binomial standard error of a share found on ``count`` rows.

    >>> round(standard_error(0.8, 400), 3)
    0.02
    """
    return math.sqrt(share * (1 - share) / count)
