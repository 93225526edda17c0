"""What an adaptation gave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mpt.rundir.directory import write_atomic
from mpt.rundir.plain_json import json_text, with_nan
from mpt.system.paths import AnyPath

FILE = "results.json"
OLD_FILE = "result.json"  # what a version before wrote where there was one target: its result alone


@dataclass(frozen=True)
class Result:
    """What an adaptation gave for one task.

    Attributes:
        task: the target task; ``metric`` is its metric's name.
        scores: the metric on the scored rows, one per seed.
        rows: scored rows; those of the test split, if the config does not say otherwise.
        parameters: trained numbers per prompt.
        steps: training steps.
        seconds: spent in them, for all seeds together.
        curve: (step, mean metric over seeds on the validation rows).
        parts: what each seed's score is made of, see ``pseudo_values``; empty in a run of before.
        baselines: what each baseline has on the scored rows, the mean over seeds; see ``beside``.
        remarks: sentences on how the scores compare with them.
    """

    task: str
    metric: str
    scores: list[float]
    rows: int
    parameters: int
    steps: int
    seconds: float
    curve: list[tuple[int, float]]
    parts: list[list[float]] = field(default_factory=list)
    baselines: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Result:
        """A result from JSON, which knows no pairs."""
        whole: dict[str, Any] = plain | {"curve": [(step, value) for step, value in plain["curve"]]}
        return cls(**whole)


def read_results(run: AnyPath) -> list[Result]:
    """The results of an adaptation, one for each target task; none where it has not finished."""
    for name in (FILE, OLD_FILE):
        if (run / name).exists():
            plain = with_nan((run / name).read_text())
            return [Result.read(each) for each in (plain if isinstance(plain, list) else [plain])]
    return []


def write_results(run: AnyPath, results: Sequence[Result]) -> None:
    """Writes the results of an adaptation, whose last file this is."""
    write_atomic(run / FILE, json_text([asdict(result) for result in results], indent=2) + "\n")


def undefined(metric: str, scores: Sequence[float]) -> list[str]:
    """Sentences on the seeds whose answers have no value of a metric; none, where all have one.

    >>> undefined("pearson", [0.5, math.nan])
    ['1 of 2 seeds has no pearson: it is undefined for the predictions on these rows.']
    """
    if not (count := sum(map(math.isnan, scores))):
        return []
    verb = "has" if count == 1 else "have"
    return [
        f"{count} of {len(scores)} seeds {verb} no {metric}: it is undefined for "
        "the predictions on these rows."
    ]
