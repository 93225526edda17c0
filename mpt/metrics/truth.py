"""What a metric is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Truth(NamedTuple):
    """What is right for one example.

    Attributes:
        texts: any of them is right; the target comes first.
        group: what it is scored together with; see ``Task``.
        choices: the class words, the last being the positive class; empty for free text.
    """

    texts: tuple[str, ...]
    group: str = ""
    choices: tuple[str, ...] = ()


# Takes (truths, predictions), a row each, and gives a share, 1 being perfect.
Metric = Callable[[Sequence[Truth], Sequence[str]], float]


def targets(truths: Sequence[Truth]) -> list[str]:
    return [truth.texts[0] for truth in truths]
