"""What a run directory holds, as far as the run has come."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpt.comparison.config import CompareConfig
from mpt.config.options import ContinualConfig, PretrainConfig
from mpt.config.yaml_file import kind_of, load_config
from mpt.errors import UserError
from mpt.inference.answers import Answered, kept_answers
from mpt.methods import AdaptConfig
from mpt.prompts.saved import Card
from mpt.report.machine import kept_machine
from mpt.rundir.directory import Metrics
from mpt.system.paths import AnyPath
from mpt.training.spending import Spending, kept_spending

Config = PretrainConfig | AdaptConfig | CompareConfig | ContinualConfig


@dataclass(frozen=True)
class Stage:
    """A training stage.

    Attributes:
        lines: of its metrics.
        spending: what it takes; None in a run of before.
    """

    name: str
    lines: Sequence[Mapping[str, float]]
    spending: Spending | None

    @property
    def step(self) -> int:
        """The last step."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    @property
    def seconds(self) -> float:
        """Of all steps, compilation included; 0 in a run of before."""
        speeds = [line["rows_per_second"] for line in self.lines if "rows_per_second" in line]
        return sum(self.spending.rows / speed for speed in speeds) if self.spending else 0.0


@dataclass(frozen=True)
class Facts:
    """What a run directory holds.

    Attributes:
        cards: of its prompts, by the names of their files.
        answers: task -> seed -> what was answered on the scored rows.
        machine: see ``keep_machine``.
        kept: bytes of its prompts on disk.
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
        UserError: it is none.
    """
    file = run / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run}: no run directory (it has no config.yaml)")
    folders = sorted((path.parent for path in run.glob("*/metrics.jsonl")), key=_place)
    cards = sorted((run / "prompts").glob("*.json"), key=_place)
    return Facts(
        path=run,
        config=load_config(
            kind_of(file, (PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig)), file
        ),
        stages=[Stage(path.name, Metrics(path).read(), kept_spending(path)) for path in folders],
        cards={path.stem: Card(**json.loads(path.read_text())) for path in cards},
        answers=kept_answers(run),
        machine=kept_machine(run),
        kept=sum(len(path.read_bytes()) for path in (run / "prompts").glob("*.safetensors")),
    )


def _place(path: AnyPath) -> list[tuple[int, str]]:
    """Sorts by name, and numbers in names by their size."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", path.stem)]
