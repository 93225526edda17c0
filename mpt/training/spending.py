"""The cost of a training stage: computed before its first step, and stored with its metrics."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from mpt.rundir.directory import write_atomic
from mpt.rundir.plain_json import json_text
from mpt.system.paths import AnyPath

FILE = "cost.json"


@dataclass(frozen=True)
class Spending:
    """The cost of a stage.

    Attributes:
        prompts: how many are trained side by side.
        trained: number of trained parameters, of all prompts together.
        backbone: the number of the backbone's parameters, and ``bytes`` their size in memory.
        rows: of a step, over all prompts.
        flops: necessary FLOPs of a step on rows of the mean length, see ``mpt.models.cost``.
        finetuning: those of a step that reads the same rows without a prompt and trains every weight.
    """

    prompts: int
    trained: int
    backbone: int
    bytes: int
    rows: int
    steps: int
    flops: float
    finetuning: float


def keep_spending(folder: AnyPath, spending: Spending) -> None:
    """Writes the cost of a stage into its folder."""
    write_atomic(folder / FILE, json_text(asdict(spending), indent=2) + "\n")


def kept_spending(folder: AnyPath) -> Spending | None:
    """The stored cost; None if there is none."""
    file = folder / FILE
    return Spending(**json.loads(file.read_text())) if file.exists() else None
