"""From the probabilities of classes to the answers that a metric rewards."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def f1_threshold(positive: Float[np.ndarray, " N"], weights: Float[np.ndarray, " N"]) -> float:
    """The probability of the positive class from which on it is to be answered, for the highest F1.

    That is half of the highest F1 that is to be expected, so never above a half (Lipton et al., ECML 2014,
    section 4).

    Args:
        positive: the probabilities of the positive class of some rows.
        weights: how many rows each of them stands for.

    >>> f1_threshold(np.array([1.0, 1.0, 0.0]), np.ones(3))  # nothing is in doubt
    0.5
    >>> f1_threshold(np.full(3, 0.2), np.ones(3))  # all are answered, which gives 2 * 0.6 / (3 + 0.6)
    0.166...
    """
    order = np.argsort(-positive)
    found = np.cumsum((weights * positive)[order])  # expected true positives, if so many rows are answered
    answered = np.cumsum(weights[order])
    return float(np.max(found / (answered + found[-1])))
