"""The figures of continual learning are the paper's."""

import numpy as np
import pytest

from mpt.metrics.transfer import average_accuracy, backward_transfer, forward_transfer

# Row i: each of three tasks once task i has been learned.
MATRIX = np.array([[0.9, 0.3, 0.2], [0.7, 0.8, 0.6], [0.5, 0.6, 1.0]])


def test_figures_by_hand():
    assert average_accuracy(MATRIX) == pytest.approx((0.5 + 0.6 + 1.0) / 3)
    assert backward_transfer(MATRIX) == pytest.approx(((0.5 - 0.9) + (0.6 - 0.8)) / 2)
    before = np.array([0.4, 0.25, 0.5])
    assert forward_transfer(MATRIX, before) == pytest.approx(((0.3 - 0.25) + (0.6 - 0.5)) / 2)


@pytest.mark.parametrize("count", [2, 5])
def test_figures_are_the_sums_of_the_paper(count):
    rng = np.random.default_rng(count)
    r, b, t = rng.uniform(size=(count, count)), rng.uniform(size=count), count
    assert average_accuracy(r) == pytest.approx(sum(r[t - 1, i] for i in range(t)) / t)
    assert backward_transfer(r) == pytest.approx(sum(r[t - 1, i] - r[i, i] for i in range(t - 1)) / (t - 1))
    assert forward_transfer(r, b) == pytest.approx(sum(r[i - 1, i] - b[i] for i in range(1, t)) / (t - 1))


def test_what_never_changes_is_neither_forgotten_nor_improved():
    matrix = np.tile(np.array([0.25, 0.5, 0.75]), (3, 1))
    assert backward_transfer(matrix) == 0.0
    assert forward_transfer(matrix, matrix[0]) == 0.0
