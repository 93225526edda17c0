"""Examples of a task together with their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mpt.data.text.example import Example
from mpt.types import Row


class Labelled(NamedTuple):
    """Examples of a task, and the same ones tokenised."""

    examples: Sequence[Example]
    rows: Sequence[Row]

    @property
    def classes(self) -> Int[np.ndarray, " R"]:
        """The index of each example's class word among the task's."""
        return np.array([example.label for example in self.examples])
