"""What is compiled, and what comes of it: plain values, that travel between processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mpt.config.options import MeshConfig, ModelConfig, TrainConfig
from mpt.plan.chips import Chip


@dataclass(frozen=True)
class Job:
    """A training stage's step on a mesh of devices.

    Attributes:
        train: the stage, with its rows of a step.
        prompts: how many the step has.
        length: vectors of a prompt.
        rank: of factored prompts; 0 stands for free vectors.
        shared: how many shared parts factored prompts have: one, or each its own.
        distilled: teachers read each batch too.
        inputs: tokens of each row's input; ``labels`` that it predicts.
        nodes: inner nodes of each row's class tree, without the root; -1 where the target is predicted.
        chip: what each device is.
        topology: which devices; those at hand where left out.
        layer: the layer before which the prompts enter.
    """

    model: ModelConfig
    train: TrainConfig
    prompts: int
    length: int
    rank: int
    shared: int
    distilled: bool
    inputs: int
    labels: int
    mesh: MeshConfig
    chip: Chip
    topology: str = ""
    nodes: int = -1
    layer: int = 0

    @property
    def rows(self) -> int:
        """Of a step."""
        return self.train.batch_size

    @property
    def shards(self) -> int:
        """Parts that the rows of a step are dealt out in, side by side or one after another."""
        return self.mesh.data * self.mesh.fsdp * self.train.microbatches

    @property
    def tokens(self) -> int:
        """Tokens of a step's rows, inputs and targets."""
        return self.rows * (self.inputs + self.labels)

    def on(self, mesh: MeshConfig, rows: int) -> Job:
        """The same on another mesh, with another number of rows."""
        return replace(self, mesh=mesh, train=replace(self.train, batch_size=rows))


@dataclass(frozen=True)
class Estimate:
    """What a step takes of each chip. Sizes are in bytes.

    Attributes:
        weights: of its share of the frozen weights.
        activations: what the forward pass keeps for the backward pass, at most.
        temporaries: all else that comes and goes.
        memory: everything at once.
        flops: floating-point operations that are necessary, see ``mpt.models.cost``.
        traffic: read from and written to its memory.
        collectives: kind -> what it is sent by other chips.
        seconds: of a step.
        basis: where ``seconds`` is from.
        compiling: seconds that the compiler took.
        fault: why there is no such step; then at most ``memory`` is known.
    """

    weights: float = 0
    activations: float = 0
    temporaries: float = 0
    memory: float = 0
    flops: float = 0
    traffic: float = 0
    collectives: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0
    basis: str = ""
    compiling: float = 0
    fault: str = ""
