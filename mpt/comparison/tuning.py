"""Tuning: each method's learning rates, chosen with one budget, on rows that the table does not show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import ENTRIES, Cell
from mpt.methods import AdaptConfig
from mpt.rundir.plain_json import json_text


@dataclass(frozen=True)
class Tuned:
    """The results of a method's trials.

    Attributes:
        trials: factor -> tune task -> the metric on validation rows, the mean over seeds.
    """

    trials: Mapping[float, Mapping[str, float]]

    @property
    def factor(self) -> float:
        """The best in the mean over tasks; of equals, the one nearest to 1."""
        means = {factor: np.mean([*values.values()]) for factor, values in self.trials.items()}
        return max(means, key=lambda factor: (means[factor], -abs(math.log(factor))))


def tuned_methods(config: CompareConfig) -> list[str]:
    """The methods that have trials."""
    return [method for method in config.methods if ENTRIES[method].tuned and config.tune.factors]


def trial_seeds(config: CompareConfig) -> tuple[int, ...]:
    """The comparison's seeds that trials have."""
    return config.adapt.seeds[: config.tune.seeds or None]


def trial_base(config: CompareConfig, cell: Cell) -> AdaptConfig:
    """A trial before its entry makes it its own, but for the run directory.

    With fewer seeds than the comparison has, a step has as many rows of each.
    """
    base, seeds = cell.base(config), trial_seeds(config)
    train = replace(base.train, batch_size=base.train.batch_size * len(seeds) // len(base.seeds))
    trial = replace(base, seeds=seeds, train=train, scored="validation", test_rows=config.tune.rows)
    return replace(trial, validate_every=0, track=())


def as_json(config: CompareConfig, tuned: Mapping[str, Tuned]) -> str:
    """What was tried, and what was chosen."""
    methods = {
        method: {
            "factor": one.factor,
            "trials": [{"factor": factor, "scores": scores} for factor, scores in one.trials.items()],
        }
        for method, one in tuned.items()
    }
    facts = dataclasses.asdict(config.tune) | {"split": "validation", "seeds": trial_seeds(config)}
    return json_text(facts | {"methods": methods}, indent=2) + "\n"


def in_words(config: CompareConfig, tuned: Mapping[str, Tuned]) -> str:
    """How the rates were chosen, in a few sentences."""
    tried, tasks = ", ".join(f"{factor:g}" for factor in config.tune.factors), ", ".join(config.tune.tasks)
    per = "per class" if config.adapt.shots_per == "class" else "in all"
    chosen = "; ".join(f"{method} × {one.factor:g}" for method, one in tuned.items())
    return (
        f"Rates: the best of {tried} times each method's own, on validation rows of {tasks}, "
        f"with {config.tune.shots} examples {per}: the same trials for each method, from a universal "
        f"prompt that has not seen those tasks. Chosen: {chosen}."
    )
