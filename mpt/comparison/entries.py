"""The entries of a comparison, a line of its table each, and the adaptations that fill its cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from mpt.baselines import BASELINES, Baseline
from mpt.catalog.library import find_task, name_of
from mpt.comparison.config import CompareConfig
from mpt.config.adapt import BaselineName, answers
from mpt.config.options import WHOLE
from mpt.errors import UserError
from mpt.methods import AUTO, METHODS, AdaptConfig, Method, options_of

OURS = "universal prompt, adapted"
SCRATCH = ("prompt tuning from vocabulary", "prompt tuning from instruction")


@dataclass(frozen=True)
class Entry:
    """A line of the table: a method, and where it starts.

    Attributes:
        name: the line's name.
        start: "universal": from the universal prompt, or the prompts of its source tasks; "untaught": where
            pretraining starts, without it; "hard": the task's instruction, word for word; "instruction" or
            "vocabulary": from scratch; "nothing": a baseline has no prompt.
        trained: it learns from the target's examples.
        method: the name of its method; "auto": that of the adaptations.
        freeze_shared: it trains the factors of a universal prompt alone.
        calibrated: its answers are calibrated by batch.
        baseline: the name of a baseline, which stands in place of the method.
    """

    name: str
    start: Literal["nothing", "universal", "untaught", "hard", "instruction", "vocabulary"]
    trained: bool = True
    method: str = "prompt"
    freeze_shared: bool = False
    calibrated: bool = False
    baseline: Literal["", BaselineName] = ""

    @property
    def record(self) -> Method:
        """The record of its method; where that follows from the task, of the one with more to tune."""
        return METHODS["classifier" if self.method == AUTO else self.method]

    @property
    def universal(self) -> bool:
        """It needs the pretraining."""
        return self.start == "universal"

    @property
    def tuned(self) -> bool:
        """It has a learning rate to tune."""
        return self.trained and not self.baseline and self.record.trained

    def config(self, base: AdaptConfig, prompt: str, scratch_rate: float, factor: float = 1.0) -> AdaptConfig:
        """``base`` as this entry would run it; an untrained one needs no more than one seed.

        Args:
            prompt: run directory of the universal prompt.
            scratch_rate: the peak learning rate of vectors that start from scratch.
            factor: what every peak learning rate is multiplied by.
        """
        method = base.method if self.method == AUTO else self.method
        base = replace(base, method=method, freeze_shared=self.freeze_shared)
        base = replace(base, calibrate=base.calibrate or self.calibrated)
        base = replace(base, baseline=self.baseline, baselines=False)  # they are entries of their own
        base = replace(base, prompt=prompt if self.universal else "")
        if self.start in ("hard", "instruction", "vocabulary"):
            base = self._from_scratch(base, scratch_rate, self.start)
        elif self.record.new_vectors:
            base = self._from_scratch(base, scratch_rate, "instruction")
        if self.trained:
            return scaled(base, self.record, factor)
        return replace(base, seeds=base.seeds[:1], train=replace(base.train, steps=0, epochs=0.0))

    def _from_scratch(
        self, base: AdaptConfig, rate: float, start: Literal["hard", "instruction", "vocabulary"]
    ) -> AdaptConfig:
        if start == "hard":
            vectors = replace(base.vectors, start="instruction", length=0)
        else:
            vectors = replace(base.vectors, start=start)
        return replace(base, vectors=vectors, train=replace(base.train, learning_rate=rate))


def scaled(config: AdaptConfig, method: Method, factor: float) -> AdaptConfig:
    """The config with every peak learning rate of a method multiplied by ``factor``."""
    train = config.train
    train = replace(
        train,
        learning_rate=factor * train.learning_rate,
        factor_rate=factor * train.factor_rate,
        word_rate=factor * train.word_rate,
    )
    config = replace(config, train=train)
    if not method.learning_rates:
        return config
    options = options_of(config, method)
    rates = {name: factor * getattr(options, name) for name in method.learning_rates}
    return replace(config, **{method.name: replace(options, **rates)})


def _of(method: Method) -> Entry:
    """The entry of a method that is compared under its own title."""
    start = "universal" if method.needs_teachers else "instruction"
    return Entry(method.title, start, method=method.name)


def _of_baseline(baseline: Baseline) -> Entry:
    return Entry(baseline.name, "nothing", trained=baseline.learns, baseline=baseline.name)


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("hard prompt", "hard", trained=False),
        Entry("hard prompt, calibrated", "hard", trained=False, calibrated=True),
        Entry("universal prompt, not adapted", "universal", trained=False),
        Entry("universal prompt, not adapted, calibrated", "universal", trained=False, calibrated=True),
        Entry(OURS, "universal", method=AUTO),
        Entry("universal prompt, factors adapted", "universal", method=AUTO, freeze_shared=True),
        Entry("the same, not pretrained", "untaught", method=AUTO),
        Entry(SCRATCH[0], "vocabulary", method=AUTO),
        Entry(SCRATCH[1], "instruction", method=AUTO),
        *(_of(method) for method in METHODS.values() if method.compared),
        *map(_of_baseline, BASELINES.values()),
    )
}


class Cell(NamedTuple):
    """One adaptation of the table.

    Attributes:
        method: the name of the entry.
        target: the task's name or file.
        shots: examples per class; None for an entry that learns from none, whatever their number.
    """

    method: str
    target: str
    shots: int | None

    @property
    def entry(self) -> Entry:
        return ENTRIES[self.method]

    def folder(self, config: CompareConfig) -> Path:
        """Its run directory, inside the comparison's."""
        several = (f"k{self.shots}",) if config.shots and self.shots is not None else ()
        return Path(name_of(self.target), *several, slug(self.method))

    def base(self, config: CompareConfig) -> AdaptConfig:
        """The adaptation before an entry makes it its own, but for the run directory."""
        shots = config.adapt.shots if self.shots is None else self.shots
        source = config.pretrain
        base = replace(config.adapt, task=self.target, shots=shots, track=config.track)
        if self.entry.start == "untaught":
            length = WHOLE if source.universal.wordings else source.universal.instruction
            base = replace(base, vectors=source.vectors, instruction=length)
        return replace(base, model=source.model, mesh=source.mesh)


def slug(method: str) -> str:
    """An entry's name as that of a folder."""
    return method.replace(", ", "_").replace(" ", "_")


def numbers_of_shots(config: CompareConfig) -> tuple[int, ...]:
    """The numbers of examples, one table each."""
    return config.shots or (config.adapt.shots,)


def cells(config: CompareConfig) -> Iterator[Cell]:
    """Every cell once, in the order of their runs: whole tables, of one number of shots, come first.

    A baseline has none where it does not apply.
    The cell of an untrained entry is filled with the first number of shots, and stands in every table.
    """
    for shots in numbers_of_shots(config):
        for target in config.targets:
            for method in config.methods:
                if not _applies(ENTRIES[method], target):
                    continue
                if ENTRIES[method].trained:
                    yield Cell(method, target, shots)
                elif shots == numbers_of_shots(config)[0]:
                    yield Cell(method, target, None)


def _applies(entry: Entry, target: str) -> bool:
    """Whether an entry can answer a target's rows; of a task file that is gone, whatever was asked for."""
    if not entry.baseline:
        return True
    try:
        return answers(entry.baseline, bool(find_task(target).choices))
    except UserError:
        return True
