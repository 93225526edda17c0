"""The results of an adaptation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mpt.rundir.directory import write_atomic
from mpt.rundir.plain_json import json_text, with_nan
from mpt.system.paths import AnyPath

FILE = "results.json"
OLD_FILE = "result.json"  # an older version wrote a single result if there was one target


@dataclass(frozen=True)
class Result:
    """The result of an adaptation for one task.

    Attributes:
        task: the target task; ``metric`` is its metric's name.
        scores: the metric on the scored rows, one per seed.
        rows: number of scored rows, of the test split unless the config sets another.
        parameters: trained numbers per prompt.
        steps: training steps.
        seconds: spent in them, for all seeds together.
        curve: (step, mean metric over seeds on the validation rows).
        parts: the pseudo-values of each seed's score, see ``pseudo_values``; empty in older runs.
        baselines: each baseline's score on the scored rows, the mean over seeds; see ``beside``.
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
    """The results of an adaptation, one for each target task; None if it has not finished."""
    for name in (FILE, OLD_FILE):
        if (run / name).exists():
            plain = with_nan((run / name).read_text())
            return [Result.read(each) for each in (plain if isinstance(plain, list) else [plain])]
    return []


def write_results(run: AnyPath, results: Sequence[Result]) -> None:
    """Writes the results of an adaptation; this file is written last."""
    write_atomic(run / FILE, json_text([asdict(result) for result in results], indent=2) + "\n")


def undefined(metric: str, scores: Sequence[float]) -> list[str]:
    """Sentences on the seeds for whose predictions the metric is undefined.

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
