"""Reads the content of a run directory, whether the run has finished or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpt.cards.card import Card
from mpt.comparison.config import CompareConfig
from mpt.config.continual import ContinualConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import kind_of, load_config
from mpt.errors import UserError
from mpt.inference.answers import Answered, kept_answers
from mpt.methods import AdaptConfig
from mpt.report.machine import kept_machine
from mpt.rundir.directory import Metrics
from mpt.system.paths import AnyPath
from mpt.training.spending import Spending, kept_spending

Config = PretrainConfig | AdaptConfig | CompareConfig | ContinualConfig


@dataclass(frozen=True)
class Stage:
    """A training stage.

    Attributes:
        name: the name of the stage.
        lines: the lines of its metrics.
        spending: what the stage costs; None in runs of older versions.
    """

    name: str
    lines: Sequence[Mapping[str, float]]
    spending: Spending | None

    @property
    def step(self) -> int:
        """The last step so far."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    @property
    def seconds(self) -> float:
        """Seconds of all steps, with compilation; 0 in runs of older versions."""
        speeds = [line["rows_per_second"] for line in self.lines if "rows_per_second" in line]
        return sum(self.spending.rows / speed for speed in speeds) if self.spending else 0.0


@dataclass(frozen=True)
class Facts:
    """The content of a run directory.

    Attributes:
        path: the run directory.
        config: the config of the run.
        stages: the training stages.
        cards: the cards of its prompts, by the names of their files.
        answers: the answers to the scored examples, by task and seed.
        machine: the facts about the machine; see ``keep_machine``.
        kept: size of its prompts on disk in bytes.
    """

    path: AnyPath
    config: Config
    stages: Sequence[Stage]
    cards: Mapping[str, Card]
    answers: Mapping[str, Mapping[int, Sequence[Answered]]]
    machine: Mapping[str, Any]
    kept: int


def facts(run: AnyPath) -> Facts:
    """Reads a run directory.

    Raises:
        UserError: it is not a run directory.
    """
    file = run / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run}: no run directory (it has no config.yaml)")
    folders = sorted((path.parent for path in run.glob("*/metrics.jsonl")), key=_sort_key)
    cards = sorted((run / "prompts").glob("*.json"), key=_sort_key)
    return Facts(
        path=run,
        config=load_config(
            kind_of(file, (PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig)), file
        ),
        stages=[Stage(path.name, Metrics(path).read(), kept_spending(path)) for path in folders],
        cards={path.stem: Card.read(path.read_bytes()) for path in cards},
        answers=kept_answers(run),
        machine=kept_machine(run),
        kept=sum(len(path.read_bytes()) for path in (run / "prompts").glob("*.safetensors")),
    )


def _sort_key(path: AnyPath) -> list[tuple[int, str]]:
    """A key that sorts paths by name, and numbers within names by their value."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D*)(\d*)", path.stem)]
