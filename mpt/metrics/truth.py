"""The type of correct answers, and of the metrics that take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Truth(NamedTuple):
    """The correct answers to one example.

    Attributes:
        texts: all texts that count as correct; the target comes first.
        group: the name of the group that the example is scored with; see ``Task``.
        choices: the class words, the last being the positive class; empty for free text.
    """

    texts: tuple[str, ...]
    group: str = ""
    choices: tuple[str, ...] = ()


# A function from truths and predictions, one per row, to a score; 1 is perfect.
Metric = Callable[[Sequence[Truth], Sequence[str]], float]


def targets(truths: Sequence[Truth]) -> list[str]:
    """The target of each row."""
    return [truth.texts[0] for truth in truths]
