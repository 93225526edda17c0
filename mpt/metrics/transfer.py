"""Metrics of continual learning (Lopez-Paz & Ranzato, NeurIPS 2017, section 2).

All are computed from a matrix R whose entry [i, j] is the metric on task j after task i has been learned.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "J J"]


def average_accuracy(matrix: Matrix) -> float:
    """ACC = 1/T Σ_j R[T, j]: the mean over all tasks after the last one.

    >>> average_accuracy(np.array([[0.5, 0.25], [0.75, 1.0]]))
    0.875
    """
    return float(matrix[-1].mean())


def backward_transfer(matrix: Matrix) -> float:
    """BWT = 1/(T-1) Σ_{j<T} R[T, j] - R[j, j]: how later tasks changed earlier ones; below 0 is forgetting.

    >>> backward_transfer(np.array([[0.5, 0.25], [0.75, 1.0]]))
    0.25
    """
    return float((matrix[-1] - matrix.diagonal())[:-1].mean())


def forward_transfer(matrix: Matrix, before: Float[np.ndarray, " J"]) -> float:
    """FWT = 1/(T-1) Σ_{j>1} R[j-1, j] - b[j]: how earlier tasks helped a task before it was learned.

    Args:
        before: b, the metric on each task before anything was learned.

    >>> forward_transfer(np.array([[0.5, 0.25], [0.75, 1.0]]), np.array([0.5, 0.125]))
    0.125
    """
    return float((matrix.diagonal(1) - before[1:]).mean())
