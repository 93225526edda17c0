"""Training rows in many wordings, each made when it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mpt.data.task import Task
from mpt.data.text.example import Example
from mpt.errors import UserError
from mpt.pretraining.wordings import reworded
from mpt.types import Row


class RewordedRows(Sequence[Row]):
    """Each example of a task in several wordings: row ``i`` depends on the seed and ``i`` alone.

    Args:
        examples: the task's own.
        wordings: how many of each.
        tokenised: makes the rows of some examples.
    """

    def __init__(
        self,
        task: Task,
        examples: Sequence[Example],
        wordings: int,
        seed: int,
        tokenised: Callable[[Sequence[Example]], list[Row]],
    ):
        if task.chat:
            raise UserError(
                f"universal.wordings: {task.name} is a chat, which cannot be reworded; leave it out"
            )
        self._instruction = task.instruction.strip()
        self._examples, self._wordings, self._seed, self._tokenised = examples, wordings, seed, tokenised

    def __len__(self) -> int:
        return len(self._examples) * self._wordings

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        random = np.random.default_rng((self._seed, index))
        example = self._examples[index % len(self._examples)]
        (row,) = self._tokenised([reworded(example, self._instruction, random)])
        return row
