"""What an adaptation gave."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from mpt.system.paths import AnyPath


@dataclass(frozen=True)
class Result:
    """What an adaptation gave.

    Attributes:
        task: the target task; ``metric`` is its metric's name.
        scores: the metric on the scored rows, one per seed.
        rows: scored rows; those of the test split, if the config does not say otherwise.
        parameters: trained numbers per prompt.
        steps: training steps.
        seconds: spent in them, for all seeds together.
        curve: (step, mean metric over seeds on the validation rows).
        parts: what each seed's score is made of, see ``pseudo_values``; empty in a run of before.
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

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Result:
        """A result from JSON, which knows no pairs."""
        whole: dict[str, Any] = plain | {"curve": [(step, value) for step, value in plain["curve"]]}
        return cls(**whole)


def read_results(run: AnyPath, several: bool) -> list[Result]:
    """The results of an adaptation; none where it is not through.

    Args:
        several: it had several targets.
    """
    file = run / ("results.json" if several else "result.json")
    if not file.exists():
        return []
    found = json.loads(file.read_text())
    return [Result.read(result) for result in (found if several else [found])]
