"""A training stage: a model, its training rows and its objective. ``train_stage`` trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce

import numpy as np
from flax import nnx
from flax.nnx.filterlib import Filter
from jax.tree import leaves

from mpt.config.options import TrainConfig
from mpt.data.batches import text_length
from mpt.data.class_tree import Trie
from mpt.data.mixture import in_steps, shares
from mpt.models.cost import Cost, batch_cost, parameter_count
from mpt.models.layers import Weight
from mpt.prompts import PromptParam, Words
from mpt.prompts.prefix import Hiding
from mpt.prompts.prompted import Distilled, Prompted
from mpt.system.processes import is_multiprocess
from mpt.training.kept_states import KeptStates
from mpt.training.losses import Objective, retention_loss, task_loss
from mpt.training.spending import Spending
from mpt.types import Batch, Layout, Row

MOST_KEPT = 2**30  # bytes of states of rows
SAMPLE = 200  # rows of each prompt from which mean lengths are estimated


@dataclass(frozen=True)
class Lengths:
    """The number of a prompt's training rows, and their lengths in tokens.

    Attributes:
        rows: number of rows; None if it is not known before the data is read.
        text: mean number of tokens that the model reads of a row.
        labels: mean number of tokens that it predicts.
        longest: the most tokens that an input has.
        nodes: mean number of inner nodes of the class tree, without the root; None for free text.
    """

    rows: int | None
    text: float
    labels: float
    longest: int
    nodes: float | None = None

    @classmethod
    def of(cls, rows: Sequence[Row], layout: Layout) -> Lengths:
        """The lengths of tokenised rows; the means are estimated from a sample."""
        sample = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:SAMPLE].tolist()]
        text = float(np.mean([text_length(row, layout) for row in sample]))
        labels = float(np.mean([len(row.targets) for row in sample]))
        trees = [len(Trie.of(row.choices).tokens) for row in sample if row.choices]
        nodes = float(np.mean(trees)) if trees else None
        return cls(len(rows), text, labels, max(len(row.inputs) for row in sample), nodes)

    def scored(self, layout: Layout) -> Lengths:
        """The lengths if the class words are scored in place of the target; the same for free text."""
        if self.nodes is None:
            return self
        text = self.text - (self.labels - 1) + self.nodes if layout == "decoder" else self.text
        return replace(self, text=text, labels=1 + self.nodes)


@dataclass(frozen=True, eq=False)
class Stage:
    """One training job of a run.

    Attributes:
        name: the folder of the run where metrics and checkpoints go.
        model: the backbone and the prompts to train; a plan gives shapes in place of arrays.
        rows: the training rows of each prompt; a plan gives their lengths instead.
        train: steps, batch size, sampling and learning rates.
        objective: the loss terms of a batch; ``weights`` are their coefficients.
        tasks: the task name of each prompt.
        trainable: an NNX filter for the trained parameters.
        weight_rate: Adam's peak learning rate for weights, if any are trained.
        rate_scale: the factor on each prompt's learning rates; by default, all have the same.
        seed: random seed of the batches.
        prepare: completes each batch before its step.
        interpolation: the weight of the trained parameters; the initial ones have the rest.
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
    rate_scale: Sequence[float] = ()
    seed: int = 0
    prepare: Callable[[Batch], Batch] | None = None
    interpolation: float = 1.0

    @cached_property
    def lengths(self) -> list[Lengths]:
        """The lengths of each prompt's training rows, as the objective reads them."""
        layout = self.model.backbone.layout
        each = [each if isinstance(each, Lengths) else Lengths.of(each, layout) for each in self.rows]
        return [one.scored(layout) for one in each] if self.train.objective == "classes" else each

    @cached_property
    def steps(self) -> int | None:
        """Number of steps; None if it is given in epochs and the number of rows is not known."""
        counts = [lengths.rows for lengths in self.lengths if lengths.rows is not None]
        if self.train.epochs and len(counts) < len(self.lengths):
            return None
        return in_steps(self.train, counts).steps

    @cached_property
    def trained(self) -> int:
        """Number of trained parameters, of all prompts together."""
        return parameter_count(nnx.state(self.model, self.trainable))

    @property
    def flops(self) -> float:
        """Necessary FLOPs of a step on rows of the mean length; see ``mpt.models.cost``."""
        prompts, length = self.model.prompt.extent(self.train.batch_size)
        cost = self._cost(prompts, length)
        if self.keeps_states:
            cost = cost._replace(below=0.0)
        trained = nnx.to_flat_state(nnx.state(self.model, self.trainable))
        if any(isinstance(parameter, Weight) for _, parameter in trained):
            return cost.finetuning
        if not isinstance(self.model, Distilled):
            return cost.step
        # Retention reads the rows for the task, and once more with the earlier tasks' prompts.
        return cost.distillation + (cost.step if self.objective is retention_loss else 0.0)

    @cached_property
    def keeps_states(self) -> bool:
        """Whether the rows' hidden states before a late prompt's layer are computed once and kept.

        They are if only the prompt is trained, every row is used, and all fit into ``MOST_KEPT`` bytes.
        """
        model, counts = self.model, [lengths.rows for lengths in self.lengths if lengths.rows is not None]
        trained = nnx.to_flat_state(nnx.state(model, self.trainable))
        only_prompt = all(isinstance(parameter, PromptParam | Words) for _, parameter in trained)
        if not model.prompt.layer or not only_prompt or len(counts) < len(self.lengths) or is_multiprocess():
            return False
        _, length = model.prompt.extent(self.train.batch_size)
        if isinstance(model, Distilled) and model.teachers.shape[1] != length:
            return False  # longer or shorter teachers move the texts to other positions
        tokens = sum(count * lengths.text for count, lengths in zip(counts, self.lengths))
        is_read = sum(counts) <= (self.steps or 0) * self.train.batch_size
        return is_read and 4 * tokens * model.backbone.embedding.shape[-1] <= MOST_KEPT

    def prepared(self, rows: Sequence[Sequence[Row]]) -> Callable[[Batch], Batch]:
        """Completes each batch of ``rows``: by ``prepare``, with kept states, and with what is hidden."""
        prompt, completions = self.model.prompt, [self.prepare] if self.prepare else []
        if self.keeps_states:
            _, length = prompt.extent(self.train.batch_size)
            objective = self.train.objective
            kept = KeptStates(self.model.backbone, rows, prompt.layer, length, objective == "classes")
            completions.append(kept.attach)
        if isinstance(prompt, Hiding):
            completions.append(prompt.hiding(rows))
        return lambda batch: reduce(lambda batch, complete: complete(batch), completions, batch)

    @property
    def finetuning_flops(self) -> float:
        """FLOPs of a step that reads the same rows without a prompt, and trains every weight."""
        return self._cost(0, 0).finetuning

    def _cost(self, prompts: int, length: int) -> Cost:
        """The cost of a step whose rows all have the mean length over the tasks, weighted as in sampling."""
        counts = [lengths.rows for lengths in self.lengths if lengths.rows is not None]
        alike = self.train.sampling == "equal" or len(counts) < len(self.lengths)
        task_shares = None if alike else shares(counts, self.train)
        text = float(np.average([lengths.text for lengths in self.lengths], weights=task_shares))
        labels = float(np.average([lengths.labels for lengths in self.lengths], weights=task_shares))
        rows = self.train.batch_size
        layer = self.model.prompt.layer
        return batch_cost(self.model.backbone, prompts, length, [text] * rows, [labels] * rows, layer)

    def spending(self) -> Spending:
        """The cost of the stage, for reports; the number of its rows has to be known."""
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


Train = Callable[[Stage], Prompted]  # trains a stage; a plan records it instead
