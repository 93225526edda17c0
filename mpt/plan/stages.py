"""The training stages of a run, in shapes: the recipes' own stages, recorded instead of trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpt.adaptation.budget import at_most, is_searched, starts
from mpt.adaptation.job import jobs, training
from mpt.adaptation.setting import setting_of
from mpt.adaptation.start import start
from mpt.catalog.library import find_sequence, find_tasks, sequence
from mpt.comparison.config import AnyConfig, CompareConfig, without
from mpt.comparison.entries import Cell, cells
from mpt.comparison.tuning import trial_base, tuned_methods
from mpt.config.continual import ContinualConfig
from mpt.config.pretrain import PretrainConfig
from mpt.continual_learning.methods import checked_methods
from mpt.continual_learning.results import TITLES
from mpt.continual_learning.sequence import Retention, lesson_stage
from mpt.continual_learning.setup import beginners
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.methods import METHODS, AdaptConfig, Train, for_tasks
from mpt.plan.here.work import search_flops
from mpt.plan.reading import GUESSED, Reading, drawn, reworded
from mpt.pretraining.stages import Sources, Universal, pretraining
from mpt.prompts import PlainPrompt, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.source import SavedSource, Source, Startable
from mpt.rundir.found import in_bank
from mpt.training.stage import Stage

Outcome = TypeVar("Outcome")


class Planned(NamedTuple):
    """A stage of a run.

    Attributes:
        name: what it is, in words.
        readings: the tasks of its rows.
        runs: how often it runs, each time from another start.
        searched: the most FLOPs of the search for rate and steps before each run; None: unknown.
    """

    name: str
    stage: Stage
    readings: Sequence[Reading]
    runs: int = 1
    searched: float | None = 0.0


@dataclass(frozen=True)
class PlannedSource:
    """Prompts that a planned pretraining will make: their shapes are right, their numbers are not."""

    name: str
    universal: Universal
    teacher_vectors: Float[Array, "K P D"]
    tasks: Sequence[str]

    def prompt(self) -> tuple[Startable, list[str]]:
        return self.universal, [*self.tasks]

    def teachers(self) -> tuple[Float[Array, "K P D"], list[str]]:
        return self.teacher_vectors, [*self.tasks]


@dataclass(frozen=True)
class ConcreteSource:
    """Saved prompts, whose arrays are concrete also while a recipe is traced."""

    name: str

    def prompt(self) -> tuple[Startable, list[str]]:
        with jax.ensure_compile_time_eval():
            return SavedSource(self.name).prompt()

    def teachers(self) -> tuple[Float[Array, "K P D"], list[str]] | None:
        with jax.ensure_compile_time_eval():
            return SavedSource(self.name).teachers()


def recorded_stages(
    recipe: Callable[[Pretrained, Train], Outcome], pretrained: Pretrained
) -> tuple[list[Stage], Outcome]:
    """Runs a recipe in shapes: where it would train a stage, the stage is recorded.

    Args:
        recipe: is given the backbone, and what trains a stage.
        pretrained: its backbone may be of shapes alone.

    Returns:
        The stages, whose models are of shapes alone, and what the recipe returns; prompts that it was given
        as trained are of ones.
    """
    split: list[tuple[Stage, nnx.GraphDef, nnx.State]] = []
    outcome: list[Outcome] = []

    def record(stage: Stage) -> Prompted:
        graph, state = nnx.split(stage.model)
        split.append((stage, graph, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)))
        form, values = nnx.split(stage.model.prompt)
        with jax.ensure_compile_time_eval():  # numbers, where all else is shapes: a recipe may choose by them
            ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), values)
        return Prompted(stage.model.backbone, nnx.merge(form, ones))

    def run(backbone) -> None:
        outcome.append(recipe(replace(pretrained, backbone=backbone), record))

    nnx.eval_shape(run, pretrained.backbone)
    return [replace(stage, model=nnx.merge(graph, state)) for stage, graph, state in split], outcome[0]


def stages(config: AnyConfig, pretrained: Pretrained) -> tuple[dict[str, list[Reading]], list[Planned]]:
    """The tasks of a config by their part in it, and its training stages in order.

    Args:
        pretrained: the config's backbone, of shapes alone; see ``mpt.plan.reading.outline``.
    """
    if isinstance(config, CompareConfig):
        return _comparison(config, pretrained)
    if isinstance(config, ContinualConfig):
        return _sequence(config, pretrained)
    if isinstance(config, PretrainConfig):
        if not config.tasks:
            raise UserError("pretrain: tasks: name at least two source tasks, see `mpt tasks`")
        find_tasks("pretrain", config.tasks)
        readings = [Reading.of(name, config.max_length, pretrained) for name in config.tasks]
        return {"source": readings}, _pretraining(config, readings, pretrained)[0]
    config = for_tasks(config, find_tasks("adapt", (config.task, *config.also)))
    reading = Reading.of(config.task, config.max_length, pretrained)
    others = [Reading.of(name, config.max_length, pretrained) for name in config.also]
    source = ConcreteSource(config.prompt) if config.prompt else None
    return {"target": [reading, *others]}, [*_adaptation(config, [reading, *others], pretrained, source)]


def _pretraining(
    config: PretrainConfig, readings: Sequence[Reading], pretrained: Pretrained
) -> tuple[list[Planned], Source]:
    """The stages of a pretraining, and the prompts that would come of it."""
    wordings = config.universal.wordings

    def recipe(pretrained: Pretrained, train: Train) -> tuple[SoftPrompt, Universal]:
        sources = Sources(
            pretrained,
            [reading.task for reading in readings],
            [reading.lengths(reading.rows["train"]) for reading in readings],
            config.vectors,
            config.seed,
            [reworded(reading, wordings, pretrained) for reading in readings] if wordings else (),
        )
        return pretraining(sources, config.teachers, config.universal, train)

    found, (teachers, universal) = recorded_stages(recipe, pretrained)
    source = PlannedSource(
        config.out, universal, teachers.compose(), [reading.task.name for reading in readings]
    )
    return [Planned(stage.name, stage, readings) for stage in found], source


def _adaptation(
    config: AdaptConfig, readings: Sequence[Reading], pretrained: Pretrained, source: Source | None
) -> Iterator[Planned]:
    """The stages of an adaptation; jobs that cost the same are one. What is not trained has none."""
    config = for_tasks(config, [reading.task for reading in readings])
    if config.baseline or not METHODS[config.method].trained:
        return
    counts = [drawn(reading, config.shots, config.shots_per) for reading in readings]
    rows = {
        reading.task.name: [reading.lengths(count)] * len(config.seeds)
        for reading, count in zip(readings, counts)
    }
    tasks = [reading.task for reading in readings]
    if pretrained.tokenizer.name_or_path != GUESSED:
        pretrained = pretrained.placing(tasks)
    compared = 1

    def recipe(pretrained: Pretrained, train: Train) -> None:
        nonlocal compared
        for part in jobs(setting_of(config, pretrained, tasks, rows, source, train)).values():
            if is_searched(part):
                compared = len(starts(part, config.search.scratch))
            part = at_most(part, config.search)
            if (stage := training(part, start(part))).steps != 0:
                train(stage)

    def planned(stage: Stage) -> Planned:
        last = stage.name.startswith("adapt")
        if not (last and config.train.is_open and len(readings) == 1):
            return Planned(stage.name, stage, readings)
        together, (reading,) = METHODS[config.method].side_by_side, readings
        validation = bool(reading.rows["validation"])
        searched = search_flops(stage, config.search, together, validation, compared)
        return Planned(stage.name, stage, readings, searched=searched)

    found, _ = recorded_stages(recipe, pretrained)
    yield from merged(map(planned, found))


def merged(planned: Iterator[Planned]) -> Iterator[Planned]:
    """Stages of one name and cost as one that runs several times, in the order of the first of each."""
    alike: dict[tuple, Planned] = {}
    for one in planned:
        stage = one.stage
        key = one.name, stage.steps, stage.train.batch_size, stage.trained, stage.flops
        runs = alike[key].runs + one.runs if key in alike else one.runs
        alike[key] = alike.get(key, one)._replace(runs=runs)
    yield from alike.values()


def _comparison(
    config: CompareConfig, pretrained: Pretrained
) -> tuple[dict[str, list[Reading]], list[Planned]]:
    find_tasks("compare", (*config.pretrain.tasks, *config.targets, *config.tune.tasks))
    planned, source = [], ConcreteSource(config.source) if in_bank(config.source) else None
    pretrains = source is None and any(cell.entry.universal for cell in cells(config))
    source_tasks = config.pretrain.tasks if pretrains or config.tune.factors else ()
    sources = read(source_tasks, config.pretrain.max_length, pretrained)
    targets = read(config.targets, config.adapt.max_length, pretrained)
    if pretrains:
        planned, source = _pretraining(config.pretrain, [*sources.values()], pretrained)
    planned += _tuning(config, sources, pretrained, source)
    for cell in cells(config):
        planned += _cell(config, cell, cell.base(config), targets[cell.target], pretrained, source)
    return {"source": [*sources.values()], "target": [*targets.values()]}, planned


def read(names: Sequence[str], max_length: int, pretrained: Pretrained) -> dict[str, Reading]:
    """Tasks by their names or files, as a model reads them."""
    return {name: Reading.of(name, max_length, pretrained) for name in names}


def _tuning(
    config: CompareConfig, sources: Mapping[str, Reading], pretrained: Pretrained, source: Source | None
) -> Iterator[Planned]:
    """The trials' own universal prompt, and each method's trials: one for each factor."""
    methods, shots = tuned_methods(config), config.tune.shots
    tried = [Cell(method, task, shots) for task in config.tune.tasks for method in methods]
    apart = without(config.pretrain, config.tune.tasks)
    if apart != config.pretrain and any(cell.entry.universal for cell in tried):
        planned, source = _pretraining(apart, [sources[name] for name in apart.tasks], pretrained)
        yield from (one._replace(name=f"tuning, {one.name}") for one in planned)
    # A trial reads its task as a target does, cut at the adaptation's own length.
    readings = read(config.tune.tasks if tried else (), config.adapt.max_length, pretrained)
    for cell in tried:
        base = trial_base(config, cell)
        for one in _cell(config, cell, base, readings[cell.target], pretrained, source):
            yield one._replace(name=f"tuning, {one.name}", runs=one.runs * len(config.tune.factors))


def _cell(
    config: CompareConfig,
    cell: Cell,
    base: AdaptConfig,
    reading: Reading,
    pretrained: Pretrained,
    source: Source | None,
) -> Iterator[Planned]:
    """The stages of one adaptation of a comparison."""
    if not cell.entry.trained:
        return
    shots = f", k = {cell.shots}" if config.shots else ""
    adapted = cell.entry.config(base, source.name if source else "", config.scratch_rate)
    for one in _adaptation(adapted, [reading], pretrained, source if cell.entry.universal else None):
        step = "" if one.name.startswith("adapt") else f", {one.name}"
        yield one._replace(name=f"{reading.task.name}{shots}, {cell.method}{step}")


def _sequence(
    config: ContinualConfig, pretrained: Pretrained
) -> tuple[dict[str, list[Reading]], list[Planned]]:
    """Every method's lessons on the tasks of a sequence."""
    tasks, methods = find_sequence(config.tasks), checked_methods(config)
    readings = [Reading.of(name, config.max_length, pretrained) for name in sequence(config.tasks)]
    source = ConcreteSource(config.prompt) if config.prompt else None
    retention = Retention(config.kl_weight, config.hidden_weight)

    def recipe(pretrained: Pretrained, train: Train) -> None:
        learners = beginners(methods, tasks, config.vectors, config.seed, pretrained, source)
        for method, learner in zip(methods, learners):
            for index, reading in enumerate(readings):
                rows = reading.lengths(drawn(reading, config.shots))
                name, backbone = f"{reading.task.name}, {TITLES[method]}", pretrained.backbone
                lesson = learner.lesson(index)
                stage = lesson_stage(lesson, name, rows, config.train, config.seed, retention, backbone)
                taught = train(stage).prompt
                assert isinstance(taught, PlainPrompt)
                learner = learner.learned(taught)

    found, _ = recorded_stages(recipe, pretrained)
    return {"sequence": readings}, [
        Planned(stage.name, stage, [readings[index % len(readings)]]) for index, stage in enumerate(found)
    ]
