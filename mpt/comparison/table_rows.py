"""The rows of a comparison's table, and the adaptations that fill its cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from mpt.config.methods import Method
from mpt.config.options import AdaptConfig, CompareConfig

OURS = "universal prompt, adapted"
SCRATCH = ("prompt tuning from vocabulary", "prompt tuning from instruction")


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        universal: it starts from the universal prompt, or from its teachers.
        trained: it learns from the target's examples.
        start: where it starts otherwise.
        length: vectors of the prompt, where they are not the config's.
        method: see ``AdaptConfig``; with the next.
        freeze_shared: trains a universal prompt's factors alone.
        calibrated: its classes are weighed by how much it likes each of them anyway.
        untaught: it starts where the pretraining starts, and is adapted as the universal prompt is.
    """

    name: str
    universal: bool = False
    trained: bool = True
    start: Literal["instruction", "vocabulary"] = "instruction"
    length: int | None = None
    method: Method = "prompt"
    freeze_shared: bool = False
    calibrated: bool = False
    untaught: bool = False

    @property
    def tuned(self) -> bool:
        """It has a rate to tune: what is not trained by gradients has none."""
        return self.trained and self.method != "examples"

    def config(self, base: AdaptConfig, prompt: str, scratch_rate: float, factor: float = 1.0) -> AdaptConfig:
        """``base`` as this row would run it; an untrained one needs no more than one seed.

        Args:
            prompt: run directory of the universal prompt.
            factor: what every peak rate is multiplied by.
        """
        base = replace(base, method=self.method, freeze_shared=self.freeze_shared)
        base = replace(base, calibrate=base.calibrate or self.calibrated)
        if self.universal:
            base = replace(base, prompt=prompt)
        if not (self.universal or self.untaught) or self.method == "attempt":  # has its own prompt as well
            length = base.vectors.length if self.length is None else self.length
            vectors = replace(base.vectors, start=self.start, length=length)
            base = replace(base, vectors=vectors, train=replace(base.train, learning_rate=scratch_rate))
        if self.trained:
            return _scaled(base, factor)
        return replace(base, seeds=base.seeds[:1], train=replace(base.train, steps=0, epochs=0.0))


def _scaled(config: AdaptConfig, factor: float) -> AdaptConfig:
    """With every peak rate times ``factor``; a method reads its own."""
    train = config.train
    rates = {
        "learning_rate": factor * train.learning_rate,
        "factor_rate": factor * train.factor_rate,
        "word_rate": factor * train.word_rate,
    }
    return replace(
        config,
        train=replace(train, **rates),
        attempt=replace(config.attempt, rate=factor * config.attempt.rate),
        dept=replace(config.dept, rate=factor * config.dept.rate),
        lora=replace(config.lora, rate=factor * config.lora.rate),
        full=replace(config.full, rate=factor * config.full.rate),
    )


ROWS = {
    row.name: row
    for row in (
        Row("hard prompt", trained=False, length=0),
        Row("hard prompt, calibrated", trained=False, length=0, calibrated=True),
        Row("in-context examples", method="examples"),
        Row("universal prompt, not adapted", universal=True, trained=False),
        Row("universal prompt, not adapted, calibrated", universal=True, trained=False, calibrated=True),
        Row(OURS, universal=True),
        Row("universal prompt, factors adapted", universal=True, freeze_shared=True),
        Row("the same, not pretrained", untaught=True),
        Row(SCRATCH[0], start="vocabulary"),
        Row(SCRATCH[1]),
        Row("SPoT", universal=True, method="spot"),
        Row("ATTEMPT", universal=True, method="attempt"),
        Row("ULPT", method="ulpt"),
        Row("DePT", method="dept"),
        Row("LoRA", method="lora"),
        Row("full fine-tuning", method="full"),
    )
}


class Cell(NamedTuple):
    """One adaptation of the table.

    Attributes:
        target: the task's name or file.
        shots: examples per class; None for a method that learns from none, whatever their number.
    """

    method: str
    target: str
    shots: int | None

    @property
    def row(self) -> Row:
        return ROWS[self.method]

    def folder(self, config: CompareConfig) -> Path:
        """Its run directory, inside the comparison's."""
        several = (f"k{self.shots}",) if config.shots and self.shots is not None else ()
        return Path(Path(self.target).stem, *several, slug(self.method))

    def base(self, config: CompareConfig) -> AdaptConfig:
        """The adaptation before a row makes it its own, but for the run directory."""
        shots = config.adapt.shots if self.shots is None else self.shots
        source = config.pretrain
        base = replace(config.adapt, task=self.target, shots=shots, track=config.track)
        if self.row.untaught:
            base = replace(base, vectors=source.vectors, instruction=source.universal.instruction)
        return replace(base, model=source.model, mesh=source.mesh)


def slug(method: str) -> str:
    """A method's name as that of a folder."""
    return method.replace(", ", "_").replace(" ", "_")


def numbers_of_shots(config: CompareConfig) -> tuple[int, ...]:
    return config.shots or (config.adapt.shots,)


def cells(config: CompareConfig) -> Iterator[Cell]:
    """Every cell once, in the order of their runs: whole tables, of one number of shots, come first.

    An untrained method's cell is filled with the first number of shots, and stands in every table.
    """
    for shots in numbers_of_shots(config):
        for target in config.targets:
            for method in config.methods:
                if ROWS[method].trained:
                    yield Cell(method, target, shots)
                elif shots == numbers_of_shots(config)[0]:
                    yield Cell(method, target, None)
