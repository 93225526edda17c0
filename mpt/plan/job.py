"""What is compiled, and what the compiler says of it: plain values, that travel between processes."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

from mpt.config import ModelConfig, TrainConfig, from_plain, to_plain


@dataclass(frozen=True)
class Job:
    """A training stage's step on a mesh of devices."""

    model: ModelConfig
    train: TrainConfig
    prompts: int
    """How many the step has."""
    length: int
    """Vectors of a prompt."""
    inputs: int
    """Tokens of each row's input."""
    labels: int
    """Tokens of each row's target."""
    mesh: tuple[int, ...]
    """Devices along the axes data, fsdp and tensor."""
    rank: int = 0
    """Of a factored prompt; 0 is one of free vectors."""
    shared: int = 1
    """Of factored prompts: how many shared parts they have, one or each its own."""
    distilled: bool = False
    """Teachers read each batch too."""
    topology: str = ""
    """The chips; the devices at hand where left out."""

    @property
    def devices(self) -> int:
        return math.prod(self.mesh)

    @property
    def tokens(self) -> int:
        """Tokens of a step's rows, inputs and targets."""
        return self.train.batch_size * (self.inputs + self.labels)

    def with_batch(self, rows: int) -> Job:
        return dataclasses.replace(self, train=dataclasses.replace(self.train, batch_size=rows))

    def dumps(self) -> str:
        return json.dumps(to_plain(self))

    @classmethod
    def loads(cls, text: str) -> Job:
        return from_plain(cls, json.loads(text), "job")


@dataclass(frozen=True)
class Estimate:
    """What a step takes, of each chip.

    Attributes:
        weights: bytes of the frozen weights.
        activations: bytes that the forward pass keeps for the backward pass, at most.
        temporaries: bytes of all else that comes and goes in a step.
        memory: bytes of everything at once.
        capacity: bytes that the chip has.
        flops: floating-point operations.
        traffic: bytes read from and written to memory.
        collectives: kind -> bytes received from other chips.
        seconds: of a step.
        basis: where ``seconds`` come from.
        peak: the chip's FLOP/s.
        compiling: seconds that the compiler took.
        fault: why there is no such step; then all else is 0.
    """

    weights: float = 0
    activations: float = 0
    temporaries: float = 0
    memory: float = 0
    capacity: float = 0
    flops: float = 0
    traffic: float = 0
    collectives: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0
    basis: str = ""
    peak: float = 0
    compiling: float = 0
    fault: str = ""

    @property
    def share(self) -> float:
        """FLOP/s, as a share of the chip's peak."""
        return self.flops / self.seconds / self.peak

    def dumps(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def loads(cls, text: str) -> Estimate:
        return cls(**json.loads(text))
