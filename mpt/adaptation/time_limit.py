"""When an adaptation must be finished, and how many steps this allows."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

FORWARD = 1 / 3  # the part of a training step that a forward pass takes


class Limit(NamedTuple):
    """When an adaptation must be finished.

    Attributes:
        at: the time by ``time.monotonic()``.
        rows: number of rows that are read after training, to score the prompt.
    """

    at: float = math.inf
    rows: int = 0

    def left(self, per_row: float, more: float = 0.0) -> float:
        """The seconds that are left for training.

        Args:
            per_row: seconds that a training step takes for each of its rows.
            more: seconds that something else will take.
        """
        return self.at - time.monotonic() - more - per_row * FORWARD * self.rows


def affordable(left: float, per_row: float, rows: int, held_out: int, every: int, rows_after: int) -> float:
    """The number of steps after the first evaluation that fit into ``left`` seconds, at least one.

    The estimate includes half as many steps on all rows, which follow.

    Args:
        per_row: seconds that a step takes for each of its rows.
        rows: of a step, of all prompts together.
        held_out: number of rows of an evaluation.
        every: steps between evaluations, and before the first one.
        rows_after: of a step on all rows.
    """
    after = rows_after / 2
    step = rows + held_out * FORWARD / every + after
    return max((left / per_row - every * after) / step, 1) if per_row else math.inf
