"""Metrics of numbers that the model writes as text."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mpt.errors import UserError
from mpt.metrics.truth import Truth, targets


def number(text: str, default: float) -> float:
    """The finite number that a text spells, or ``default`` if it spells none.

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
    """Computes a correlation of SciPy; 0 if it is undefined, as all targets or all predictions are equal.

    A predicted text that is not a number counts as -1, which is outside STS-B's scale of 0 to 5, as in T5's
    ``string_to_float``.

    Raises:
        UserError: a target is not a number.
    """
    expected = [number(text, math.nan) for text in targets(truths)]
    for text, value in zip(targets(truths), expected):
        if math.isnan(value):
            raise UserError(f"pearson and spearman need numbers as targets; '{text}' is none")
    predicted = [number(text, -1.0) for text in predictions]
    if len(set(expected)) == 1 or len(set(predicted)) == 1:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # values that are nearly equal, or too large to square
        value = float(measure(expected, predicted).statistic)
    return value if math.isfinite(value) else 0.0
