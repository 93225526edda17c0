"""The rows that an adaptation holds out while it searches for the number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mpt.adaptation.draws import MANY
from mpt.types import Row

FEW = 48  # rows: fewer are halved


class Split(NamedTuple):
    """Rows to train on, and held-out rows.

    Attributes:
        given_back: whether the held-out rows are training rows, which are trained on in the end.
    """

    learnt: Sequence[Row]
    held_out: Sequence[Row]
    given_back: bool = True


def splits_of(rows: Sequence[Row], validation: Sequence[Row], seed: int) -> list[Split]:
    """The rows to train on and to hold out, with similar class frequencies.

    Args:
        validation: rows of the validation split, which are held out if there are many training rows.
    """
    if len(rows) >= MANY and validation:
        return [Split(rows, validation, given_back=False)]
    each = folds(rows, 2 if len(rows) < FEW else 3, seed)
    return each if len(rows) < FEW else each[:1]


def folds(rows: Sequence[Row], count: int, seed: int) -> list[Split]:
    """Splits that each hold out another part of the rows, with similar class frequencies.

    There are ``count``, or fewer if no class has as many rows.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    labels = np.array([rows[i].label for i in order.tolist()])
    dealt = np.empty(len(rows), int)
    for label in np.unique(labels):
        dealt[order[labels == label]] = np.arange(np.sum(labels == label)) % count

    def split(part: int) -> Split:
        taken = [(row, at == part) for row, at in zip(rows, dealt)]
        return Split([row for row, out in taken if not out], [row for row, out in taken if out])

    return [split(part) for part in range(count) if (dealt == part).any()]
