"""A training stage: what is trained, on which rows, towards what. Recipes make it, one runner trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from flax import nnx
from flax.nnx.filterlib import Filter
from jax.tree import leaves

from mpt.config.options import TrainConfig
from mpt.data.batches import text_length
from mpt.data.mixture import in_steps, shares, training_batches
from mpt.models.cost import Cost, batch_cost, parameter_count
from mpt.models.layers import Weight
from mpt.prompts import PromptParam
from mpt.prompts.prompted import Distilled, Prompted
from mpt.rundir.directory import RunDir
from mpt.sharding import own_shards
from mpt.training.loop import Probe, Trained, fit
from mpt.training.losses import Objective, retention_loss, task_loss
from mpt.training.spending import Spending, keep_spending
from mpt.types import Batch, Layout, Row

SAMPLE = 200  # rows of each prompt whose tokens are counted


@dataclass(frozen=True)
class Lengths:
    """How many training rows a prompt has, and how long they are.

    Attributes:
        rows: their number; None where it cannot be told.
        text: tokens that the model reads of a row, the mean; ``labels`` are those that it predicts.
        longest: the most tokens that an input can have.
    """

    rows: int | None
    text: float
    labels: float
    longest: int

    @classmethod
    def of(cls, rows: Sequence[Row], layout: Layout) -> Lengths:
        """Those of tokenised rows, as a sample of them tells."""
        sample = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:SAMPLE].tolist()]
        text = float(np.mean([text_length(row, layout) for row in sample]))
        labels = float(np.mean([len(row.targets) for row in sample]))
        return cls(len(rows), text, labels, max(len(row.inputs) for row in sample))


@dataclass(frozen=True, eq=False)
class Stage:
    """One training job of a run.

    Attributes:
        name: the folder of the run that its metrics and checkpoints go to.
        model: the backbone behind the prompts to train; its arrays may be shapes alone.
        rows: the training rows of each prompt; where nothing will be trained, their lengths are enough.
        train: steps, batch size, sampling and learning rates.
        objective: the loss terms of a batch; ``weights`` are their coefficients.
        tasks: the name of each prompt's task.
        trainable: what is trained of the model, an NNX filter.
        weight_rate: Adam's peak learning rate for weights, where any are trained.
        seed: draws the batches.
        prepare: completes each batch before its step.
    """

    name: str
    model: Prompted
    rows: Sequence[Sequence[Row] | Lengths]
    train: TrainConfig
    objective: Objective = task_loss
    weights: Mapping[str, float] = field(default_factory=lambda: {"task": 1.0})
    tasks: Sequence[str] = ()
    trainable: Filter = PromptParam
    weight_rate: float | None = None
    seed: int = 0
    prepare: Callable[[Batch], Batch] | None = None

    @cached_property
    def lengths(self) -> list[Lengths]:
        """Those of each prompt's rows."""
        layout = self.model.backbone.layout
        return [rows if isinstance(rows, Lengths) else Lengths.of(rows, layout) for rows in self.rows]

    @cached_property
    def steps(self) -> int | None:
        """The steps of the stage; None where it has epochs, of rows whose number cannot be told."""
        counts = [one.rows for one in self.lengths if one.rows is not None]
        if self.train.epochs and len(counts) < len(self.lengths):
            return None
        return in_steps(self.train, counts).steps

    @cached_property
    def trained(self) -> int:
        """How many numbers it trains, of all prompts together."""
        return parameter_count(nnx.state(self.model, self.trainable))

    @property
    def flops(self) -> float:
        """Necessary FLOPs of a step, on rows of the mean length; see ``mpt.models.cost``."""
        prompts, length = self.model.prompt.extent(self.train.batch_size)
        cost = self._cost(prompts, length)
        if any(
            isinstance(part, Weight) for _, part in nnx.to_flat_state(nnx.state(self.model, self.trainable))
        ):
            return cost.finetuning
        if not isinstance(self.model, Distilled):
            return cost.step
        # Retention reads the rows for the task, and once more behind the earlier tasks' prompts.
        return cost.distillation + (cost.step if self.objective is retention_loss else 0.0)

    @property
    def finetuning_flops(self) -> float:
        """Those of a step that reads the same rows without a prompt, and trains every weight."""
        return self._cost(0, 0).finetuning

    def _cost(self, prompts: int, length: int) -> Cost:
        counts = [one.rows for one in self.lengths]
        known = [count for count in counts if count is not None]
        drawn_alike = self.train.sampling == "equal" or len(known) < len(counts)
        share = None if drawn_alike else shares(known, self.train)
        text, labels = (
            [float(np.average(values, weights=share))] * self.train.batch_size
            for values in ([one.text for one in self.lengths], [one.labels for one in self.lengths])
        )
        return batch_cost(self.model.backbone, prompts, length, text, labels)

    def spending(self) -> Spending:
        """What it takes, as reports tell it. Its rows must be here."""
        assert self.steps is not None
        return Spending(
            prompts=len(self.rows),
            trained=self.trained,
            backbone=parameter_count(self.model.backbone),
            bytes=sum(leaf.nbytes for leaf in leaves(nnx.state(self.model.backbone))),
            rows=self.train.batch_size,
            steps=self.steps,
            flops=self.flops,
            finetuning=self.finetuning_flops,
        )


def train_stage(
    stage: Stage, run: RunDir, probe: Probe | None = None, probe_every: int = 1, best: bool = False
) -> Trained:
    """Trains a stage, or goes on with it where it was interrupted; see ``fit``.

    Args:
        run: where its cost, metrics and checkpoints go.
    """
    rows = [each for each in stage.rows if not isinstance(each, Lengths)]
    train = in_steps(stage.train, list(map(len, rows)))
    keep_spending(run.path / stage.name, stage.spending())
    return fit(
        stage.model,
        training_batches(rows, train, stage.seed, stage.model.backbone.layout, own_shards()),
        train,
        stage.objective,
        weights=stage.weights,
        run=run,
        stage=stage.name,
        tasks=stage.tasks,
        trainable=stage.trainable,
        weight_rate=stage.weight_rate,
        prepare=stage.prepare,
        probe=probe,
        probe_every=probe_every,
        best=best,
    )
