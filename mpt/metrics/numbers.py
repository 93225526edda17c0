"""Metrics of numbers that the model writes as text."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mpt.errors import UserError
from mpt.metrics.truth import Truth, targets


def number(text: str, default: float) -> float:
    """The number that a text spells, or the default.

    >>> [number(text, -1.0) for text in ("3.8", "a lot", "nan")]
    [3.8, -1.0, -1.0]
    """
    try:
        value = float(text)
    except ValueError:
        return default
    return value if math.isfinite(value) else default


def pearson(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """Pearson's correlation; see ``correlation``."""
    from scipy.stats import pearsonr

    return correlation(pearsonr, truths, predictions)


def spearman(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """Spearman's correlation of ranks; see ``correlation``."""
    from scipy.stats import spearmanr

    return correlation(spearmanr, truths, predictions)


def correlation(measure: Callable[..., Any], truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """A correlation of scipy's; 0 where it is not defined: the truths or the predictions are all alike.

    A predicted text that is no number counts as -1, which is off STS-B's scale of 0 to 5, as in T5's
    ``string_to_float``.

    Raises:
        UserError: a target is no number.
    """
    right = [number(text, math.nan) for text in targets(truths)]
    for text, value in zip(targets(truths), right):
        if math.isnan(value):
            raise UserError(f"pearson and spearman need numbers as targets; '{text}' is none")
    found = [number(text, -1.0) for text in predictions]
    if len(set(right)) == 1 or len(set(found)) == 1:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nearly alike, or too large to square
        value = float(measure(right, found).statistic)
    return value if math.isfinite(value) else 0.0
