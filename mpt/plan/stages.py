"""The training stages that a config asks for, without a model: prompts, rows and steps of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.filterlib import Filter

from mpt.catalog.library import find_task
from mpt.comparison.table_rows import Cell, cells
from mpt.comparison.tuning import trial_base, tuned_methods, without
from mpt.config.methods import Method
from mpt.config.options import (
    AdaptConfig,
    CompareConfig,
    ModelConfig,
    PretrainConfig,
    PromptConfig,
    TrainConfig,
)
from mpt.data.mixture import in_steps, shares
from mpt.data.splits import SPLITS
from mpt.data.task import Task
from mpt.data.tokenise import encode
from mpt.errors import UserError
from mpt.loading.hf import load_tokenizer
from mpt.loading.shapes import abstract_backbone, place
from mpt.models.cost import Cost, batch_cost, weights
from mpt.prompts import MultitaskPrompt, Prompt, PromptParam, SoftPrompt
from mpt.prompts.start import saved_start, trained_parts

SAMPLE, AMONG = 200, 2000  # rows whose tokens are counted, drawn from the first so many
CLASS_TOKENS, TEXT_TOKENS = 2, 32  # a target's, where they cannot be counted


class Planned:
    """A model that need not be here: its shapes, and its tokenizer if that is."""

    def __init__(self, config: ModelConfig):
        self.config = config
        self.backbone = abstract_backbone(config.name, decoder_prompt=config.decoder_prompt)

    @cached_property
    def tokenizer(self):
        here = place(self.config.name)
        try:
            return load_tokenizer(str(here))[0] if here else None
        except UserError:  # a folder with a config alone
            return None

    @property
    def width(self) -> int:
        return self.backbone.embedding.shape[1]


@dataclass(frozen=True)
class Read:
    """A task as a model reads it.

    Attributes:
        rows: split -> its rows; None where that cannot be told.
        inputs: tokens of a row's input; ``labels`` of its target.
        counted: they are means over rows; else the most there can be, and a guess.
        longest: the most tokens that an input can have.
    """

    task: Task
    rows: dict[str, int | None]
    inputs: float
    labels: float
    counted: bool
    longest: int

    @classmethod
    def of(cls, name: str, max_length: int, model: Planned) -> Read:
        task = find_task(name)
        rows = {split: _count(task, split) for split in SPLITS}
        if not (task.source.here and model.tokenizer):
            return cls(
                task, rows, max_length, CLASS_TOKENS if task.choices else TEXT_TOKENS, False, max_length
            )
        first = list(islice(task.examples("train"), AMONG))
        drawn = np.random.default_rng(0).permutation(len(first))[:SAMPLE]
        found = encode([first[i] for i in drawn], model.tokenizer, max_length, model.backbone.layout)
        inputs, labels = ([len(part) for part in parts] for parts in zip(*(row[:2] for row in found)))
        return cls(task, rows, float(np.mean(inputs)), float(np.mean(labels)), True, max_length)


def _count(task: Task, split: str) -> int | None:
    """A split's rows; None also where there is no such split, which not every run needs."""
    return task.source.count(split) if {split, "all"} & set(task.source.parts) else None


@dataclass(frozen=True)
class Stage:
    """One training job.

    Attributes:
        reads: the tasks of its rows.
        counts: training rows of each prompt; None where they cannot be told.
        length: vectors of a prompt; ``prompts`` is how many of them a step has.
        prompt: all of them, in shapes alone.
        trainable: what of it is trained, an NNX filter.
        distilled: teachers read each batch too.
        runs: how often it runs, each time from another start.
    """

    name: str
    config: TrainConfig
    reads: Sequence[Read]
    counts: Sequence[int | None]
    prompts: int
    length: int
    prompt: Prompt
    trainable: Filter = PromptParam
    distilled: bool = False
    runs: int = 1

    @property
    def trained(self) -> int:
        """Numbers that it trains."""
        assert isinstance(self.prompt, nnx.Module)
        return weights(nnx.state(self.prompt, self.trainable))

    @property
    def steps(self) -> int | None:
        """None where epochs are asked for, and the rows cannot be told."""
        known = [count for count in self.counts if count is not None]
        if self.config.epochs and len(known) < len(self.counts):
            return None
        return in_steps(self.config, known).steps

    def flops(self, model: Planned) -> float:
        """Of a step, on rows of the mean length."""
        known = [count for count in self.counts if count is not None]
        several = len(self.reads) > 1 and self.config.sampling != "equal"
        share = shares(known, self.config) if several and len(known) == len(self.reads) else None
        inputs = np.average([read.inputs for read in self.reads], weights=share)
        labels = np.average([read.labels for read in self.reads], weights=share)
        text = inputs + (labels - 1 if model.backbone.layout == "decoder" else 0)
        rows = self.config.batch_size
        cost: Cost = batch_cost(model.backbone, self.prompts, self.length, [text] * rows, [labels] * rows)
        return cost.distillation if self.distilled else cost.step


@dataclass(frozen=True)
class Shape:
    """That of a universal prompt, or of a start from scratch with an instruction behind it.

    Attributes:
        vectors: their number and rank are read.
        words: vectors of an instruction behind them.
    """

    vectors: PromptConfig
    words: int = 0

    def universal(self, length: int, width: int, tasks: int) -> MultitaskPrompt:
        """Zeros of that shape."""
        words = jnp.zeros((tasks, self.words, width)) if self.words else None
        shared = jnp.zeros((length, width))
        return MultitaskPrompt.start(shared, tasks, self.vectors.rank, jax.random.key(0), words)

    def target(self, length: int, width: int, targets: int) -> MultitaskPrompt:
        """The same, as targets start from it."""
        start = self.universal(length, width, targets)
        return start.for_targets(targets, words=None if start.words is None else start.words[...])


def pretraining(config: PretrainConfig, reads: Sequence[Read], model: Planned) -> list[Stage]:
    """The teachers, then the universal prompt."""
    tasks, length = len(reads), prompt_length(config.vectors, reads[0].task, model)
    counts = [read.rows["train"] for read in reads]
    soft = _abstract(lambda: SoftPrompt(jnp.zeros((tasks, length, model.width))))
    universal = config.universal
    shape = Shape(config.vectors, universal.instruction)
    factored = _abstract(lambda: shape.universal(length, model.width, tasks))
    whole = length + shape.words
    return [
        Stage("teachers", config.teachers, reads, counts, tasks, length, soft),
        Stage("universal prompt", universal, reads, counts, tasks, whole, factored, distilled=True),
    ]


def adaptation(config: AdaptConfig, read: Read, model: Planned, source: Shape | None, name: str) -> Stage:
    """One target.

    Args:
        source: the universal prompt that it starts from; None for vectors of its own.
    """
    seeds = len(config.seeds)
    length = prompt_length(source.vectors if source else config.vectors, read.task, model)
    if source:
        prompt = _abstract(lambda: source.target(length, model.width, seeds))
    else:
        prompt = _abstract(lambda: SoftPrompt(jnp.zeros((seeds, length, model.width))))
    return Stage(
        name,
        config.train,
        [read],
        [drawn(read, config.shots, config.shots_per)] * seeds,
        seeds,
        length + source.words if source else length,
        prompt,
        trained_parts(config),
    )


def drawn(read: Read, shots: int, per: Literal["class", "task"] = "class") -> int | None:
    """The training rows that few shots leave of a task's; None where they cannot be told."""
    whole = read.rows["train"]
    classes = max(len(read.task.choices), 1) if per == "class" else 1
    return min(whole, shots * classes) if shots and whole is not None else whole


def stages(
    config: PretrainConfig | AdaptConfig | CompareConfig, model: Planned
) -> tuple[dict[str, list[Read]], list[Stage]]:
    """The tasks of a config by their part in it, and its training stages in order."""
    if isinstance(config, PretrainConfig):
        if not config.tasks:
            raise UserError("pretrain: tasks: name at least two source tasks, see `mpt tasks`")
        reads = [Read.of(name, config.max_length, model) for name in config.tasks]
        return {"source": reads}, pretraining(config, reads, model)
    if isinstance(config, AdaptConfig):
        if not plans(config.method):
            raise UserError(f"--dry-run: it knows the cost of method prompt, not of {config.method}")
        read = Read.of(config.task, config.max_length, model)
        source = Shape(config.vectors, config.instruction) if config.instruction else None
        if config.prompt:
            source = saved_shape(config.prompt)
            if not source.vectors.rank:  # a plain prompt: vectors like any others
                config, source = replace(config, vectors=source.vectors), None
        return {"target": [read]}, [adaptation(config, read, model, source, "adaptation")]
    told, found = stages(config.pretrain, model)
    targets = {name: Read.of(name, config.adapt.max_length, model) for name in config.targets}
    found += [*_tuning(config, dict(zip(config.pretrain.tasks, told["source"])), model)]
    compared = [(cell, cell.base(config)) for cell in cells(config)]
    return told | {"target": [*targets.values()]}, [*found, *_adaptations(config, compared, targets, model)]


def _tuning(config: CompareConfig, sources: Mapping[str, Read], model: Planned) -> Iterator[Stage]:
    """The trials' own universal prompt, and every factor of every method that trains a prompt."""
    tried = [
        Cell(method, task, config.tune.shots)
        for task in config.tune.tasks
        for method in tuned_methods(config)
    ]
    source = without(config.pretrain, config.tune.tasks)
    if source != config.pretrain and any(cell.row.universal for cell in tried):
        for stage in pretraining(source, [sources[name] for name in source.tasks], model):
            yield replace(stage, name=f"tuning, {stage.name}")
    # A trial reads its task as a target does, cut at the adaptation's own length.
    reads = {name: Read.of(name, config.adapt.max_length, model) for name in config.tune.tasks if tried}
    trials = [(cell, trial_base(config, cell)) for cell in tried]
    for stage in _adaptations(config, trials, reads, model):
        yield replace(stage, name=f"tuning, {stage.name}", runs=stage.runs * len(config.tune.factors))


def _adaptations(
    config: CompareConfig,
    planned: Sequence[tuple[Cell, AdaptConfig]],
    reads: Mapping[str, Read],
    model: Planned,
) -> Iterator[Stage]:
    """Every cell that trains a prompt; those that cost the same are one stage."""
    alike: dict[tuple[str, int | None, bool], list[tuple[Cell, AdaptConfig]]] = {}
    shape = Shape(config.pretrain.vectors, config.pretrain.universal.instruction)
    for cell, base in planned:
        if cell.row.trained and plans(cell.row.method):
            like = cell.row.universal or cell.row.untaught
            alike.setdefault((cell.target, cell.shots, like), []).append((cell, base))
    for (target, shots, universal), group in alike.items():
        cell, base = group[0]
        source = shape if universal else None
        several = f", k = {shots}" if config.shots else ""
        name = f"{reads[target].task.name}{several}, {'universal' if universal else 'from scratch'}"
        own = cell.row.config(base, "", config.scratch_rate)
        yield replace(adaptation(own, reads[target], model, source, name), runs=len(group))


def plans(method: Method) -> bool:
    """Whether the cost of a method is known here: that of training a prompt, and nothing else."""
    return method == "prompt"


def _abstract(make: Callable[[], Prompt]) -> Prompt:
    """The shapes of a prompt that is not made."""
    return nnx.eval_shape(make)


def saved_shape(path: str) -> Shape:
    """That of the prompt that tasks start from; a plain one's rank is 0."""
    prompt, _ = saved_start(path)
    if not isinstance(prompt, MultitaskPrompt):
        return Shape(replace(PromptConfig(), length=prompt.compose().shape[1], rank=0))
    vectors = replace(PromptConfig(), length=prompt.shared.shape[1], rank=prompt.u.shape[2])
    return Shape(vectors, 0 if prompt.words is None else prompt.words.shape[1])


def prompt_length(vectors: PromptConfig, task: Task, model: Planned) -> int:
    """A prompt's vectors; of one as long as its instruction, the tokens or, unknown, the words of that."""
    text = vectors.text if vectors.start == "text" else task.instruction
    return vectors.length or len(model.tokenizer(text)["input_ids"] if model.tokenizer else text.split())
