"""Figures of tasks learned one after another (Lopez-Paz & Ranzato, NeurIPS 2017, section 2).

All are made of a matrix whose entry [i, j] is the metric on task j once task i has been learned.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "J J"]


def average_accuracy(matrix: Matrix) -> float:
    """ACC = 1/T Σ_j R[T, j]: how well all tasks are known at the end.

    >>> average_accuracy(np.array([[0.5, 0.25], [0.75, 1.0]]))
    0.875
    """
    return float(matrix[-1].mean())


def backward_transfer(matrix: Matrix) -> float:
    """BWT = 1/(T-1) Σ_{j<T} R[T, j] - R[j, j]: what later tasks gave to earlier ones; below 0, forgetting.

    >>> backward_transfer(np.array([[0.5, 0.25], [0.75, 1.0]]))
    0.25
    """
    return float((matrix[-1] - matrix.diagonal())[:-1].mean())


def forward_transfer(matrix: Matrix, before: Float[np.ndarray, " J"]) -> float:
    """FWT = 1/(T-1) Σ_{j>1} R[j-1, j] - b[j]: what earlier tasks gave to a task before it was learned.

    Args:
        before: b, each task's metric before anything was learned.

    >>> forward_transfer(np.array([[0.5, 0.25], [0.75, 1.0]]), np.array([0.5, 0.125]))
    0.125
    """
    return float((matrix.diagonal(1) - before[1:]).mean())
