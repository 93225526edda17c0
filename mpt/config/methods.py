"""The options of the methods that an adaptation can run; each method's own class says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.errors import UserError

Method = Literal["prompt", "spot", "attempt", "ulpt", "dept", "lora", "full", "examples"]
ContinualMethod = Literal["factors", "shared", "progressive", "naive"]


def at_least_1(**numbers: int) -> None:
    """Refuses the first that is not.

    Raises:
        UserError: names it.
    """
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name}: it must be at least 1, not {number}")


@dataclass(frozen=True)
class UlptConfig:
    """ULPT: a prompt of few dimensions, projected up by a frozen random matrix."""

    rank: int = 64
    """Its dimensions."""
    seed: int = 0
    """Of the random matrix."""
    shared_only: bool = False
    """Of a universal prompt: its shared part alone has few dimensions, its factors stay what they are."""

    def __post_init__(self):
        at_least_1(rank=self.rank)


@dataclass(frozen=True)
class DeptConfig:
    """DePT: a shorter prompt, and input embeddings that move by their position."""

    length: int = 0
    """Prompt vectors, 40 of 100 in the paper; 0 for those of `vectors`."""
    rank: int = 8
    """Rank of the moves; the paper's is 45."""
    rate: float = 0.001
    """Adam's peak rate for their factors."""

    def __post_init__(self):
        at_least_1(rank=self.rank)


@dataclass(frozen=True)
class AttemptConfig:
    """ATTEMPT: each input attends over the source prompts and the target's own."""

    width: int = 100
    """Hidden units of the net that makes an input's query."""
    rate: float = 0.001
    """Adam's peak rate for it."""

    def __post_init__(self):
        at_least_1(width=self.width)


@dataclass(frozen=True)
class SpotConfig:
    """SPoT: the start is the source task's prompt that is most like the target's."""

    source: str = ""
    """The source task; chosen by similarity where left out."""
    steps: int = 8
    """Steps of prompt tuning that give the target's prompt to compare with."""


@dataclass(frozen=True)
class LoraConfig:
    """LoRA: low-rank updates of the backbone's matrices."""

    rank: int = 8
    matrices: Literal["attention", "all"] = "attention"
    """Those of attention, or those of feed-forward layers as well."""
    rate: float = 0.0005
    """Adam's peak rate."""

    def __post_init__(self):
        at_least_1(rank=self.rank)


@dataclass(frozen=True)
class FullConfig:
    """Full fine-tuning: every weight of the backbone. What is trained is scored, and not kept.

    While it runs, its checkpoints are three times the model's size.
    """

    rate: float = 2e-5
    """Adam's peak rate."""


@dataclass(frozen=True)
class ExamplesConfig:
    """In-context examples: training examples in front of each input; nothing is trained."""

    tokens: int = 512
    """As many examples as fit into these, with the instruction."""
