"""Means, intervals and differences of a comparison's cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpt.adaptation.result import Result
from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import ENTRIES, OURS, SCRATCH, Cell, cells, numbers_of_shots
from mpt.metrics import LEAST
from mpt.metrics.interval import Estimate, average, estimate, floored
from mpt.prompts.saved import has_prompt, load_prompt
from mpt.system.paths import AnyPath


@dataclass(frozen=True)
class Comparison:
    """The finished cells of a comparison; the others are None wherever they are asked for.

    Attributes:
        targets: as the config names them.
        shots: numbers of examples from few to many, whatever ran first; one table each.
        reference: the method that others' differences are taken from.
        goal: the accuracy for which the first step that reaches it is shown.
        weights: the backbone's parameters.
        shots_per: what a number of shots counts, see ``AdaptConfig``.
    """

    methods: Sequence[str]
    targets: Sequence[str]
    shots: Sequence[int]
    goal: float
    weights: int
    results: Mapping[Cell, Result]
    shots_per: str = "class"
    reference: str = OURS

    @classmethod
    def of(cls, config: CompareConfig, weights: int, results: Mapping[Cell, Result]) -> Comparison:
        shots = sorted(numbers_of_shots(config), key=lambda count: count or math.inf)  # 0 takes all rows
        per = config.adapt.shots_per
        there = {cell.method for cell in cells(config)}  # a baseline may apply to no target
        methods = [method for method in config.methods if method in there]
        return cls(methods, config.targets, shots, config.goal, weights, results, per, config.reference)

    def at(self, method: str, target: str, shots: int) -> Result | None:
        return self.results.get(Cell(method, target, shots if ENTRIES[method].trained else None))

    def row(self, method: str, shots: int) -> list[Result]:
        """A method's results, one per target; empty until all are there."""
        results = [self.at(method, target, shots) for target in self.targets]
        return [result for result in results if result] if None not in results else []

    def mean(self, method: str, shots: int) -> Estimate | None:
        """The average over targets."""
        row = self.row(method, shots)
        return average([interval(result) for result in row]) if row else None

    def difference(self, method: str, shots: int, target: str = "") -> Estimate | None:
        """How much more a method has than the reference; averaged over targets for "".

        Both have learnt from the same draws and are scored on the same rows: it is taken draw by draw
        and row by row, so what is easy for both cancels out.
        """
        if method == self.reference or self.reference not in self.methods:
            return None
        targets = [target] if target else self.targets
        pairs = [(self.at(method, name, shots), self.at(self.reference, name, shots)) for name in targets]
        differences = [paired(one, other) for one, other in pairs if one and other]
        return average(differences) if len(differences) == len(targets) else None


def interval(result: Result) -> Estimate:
    """The mean over seeds, with its interval."""
    error = estimate(np.array(result.scores), _parts(result))
    return floored(error._replace(least=LEAST.get(result.metric, 0.0), most=1.0), result.rows)


def paired(one: Result, other: Result) -> Estimate:
    """The mean difference of two methods, with its interval.

    One that has a single seed, for it draws no examples, stands against each of the other's.
    """
    a, b = _parts(one), _parts(other)
    if a.shape[1] != b.shape[1]:  # a run of before is known by its scores alone
        a, b = np.array(one.scores)[:, None], np.array(other.scores)[:, None]
    error, most = estimate(np.subtract(one.scores, other.scores), a - b), 1.0 - LEAST.get(one.metric, 0.0)
    error = error._replace(least=-most, most=most)
    alike = a.shape[1] > 1 and not error.mean  # as far as these rows tell
    return floored(error, min(one.rows, other.rows)) if alike else error


def _parts(result: Result) -> Float[np.ndarray, "S G"]:
    return np.array(result.parts) if result.parts else np.array(result.scores)[:, None]


def first_step(result: Result, goal: float) -> int | None:
    """The first step at which the validation rows' mean reached ``goal``."""
    return next((step for step, value in result.curve if value >= goal), None)


def seconds(result: Result) -> float:
    """Of training, per seed: prompts that train side by side share the time."""
    return result.seconds / len(result.scores)


def trained(result: Result) -> int:
    """Numbers trained per seed; none, where there is no step."""
    return result.parameters if result.steps else 0


def head_start(comparison: Comparison, target: str, shots: int) -> tuple[bool, float] | None:
    """When the adapted universal prompt is as good as the better prompt from scratch ever gets.

    Both are read off the means on validation rows; the better one is that whose last figure is higher.

    Returns:
        Whether it is at any step, and the first such step as a share of the other's steps; None where
        a curve is not there, or nothing was trained.
    """
    ours = comparison.at(OURS, target, shots)
    scratch = [result for name in SCRATCH if (result := comparison.at(name, target, shots)) and result.curve]
    if not ours or not ours.curve or not scratch:
        return None
    best = max(scratch, key=lambda result: result.curve[-1][1])
    steps, value = best.curve[-1]
    step = first_step(ours, value)
    return (step is not None, (step or 0) / steps) if steps else None


def pretraining_seconds(run: AnyPath) -> float:
    """Seconds in the training steps of a pretraining run, of the teachers too if it has some."""
    cards = [load_prompt(run, name)[1] for name in ("teachers", "universal") if has_prompt(run, name)]
    return sum(card.metrics["training seconds"] for card in cards)
