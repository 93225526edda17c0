"""Chooses an adaptation's learning rate and number of steps on held-out rows.

Few rows are halved: a prompt is trained on each half, and evaluated on the other. Of more rows, a third is
held out; of many none, if there is a validation split. Candidate learning rates train side by side in one
job; if there are two starts to compare, each has such a job. After the first evaluation the best of all
continues alone, as in successive halving, until nothing improves.
Its prompt is then trained on all rows, with the held-out ones, for half as many steps; at a low rate, because
the optimizer starts again, and its first steps are as large as any, however little there is to gain. A start
that is clearly better untrained is not trained. Whole models do not fit side by side: their rates are tried
one after another, each until nothing improves.

Of a prompt that starts from a universal one, what is evaluated and kept lies between its values before and
after training: it then keeps more of what the universal prompt knows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from mpt.adaptation.calibrated_start import calibrated_start
from mpt.adaptation.candidates import Candidate, held_out_losses, held_out_scores
from mpt.adaptation.held_out import Scores
from mpt.adaptation.splits import Split
from mpt.adaptation.time_limit import Limit, affordable
from mpt.config.adapt import SearchConfig
from mpt.methods import METHODS, Setting, Start
from mpt.prompts.class_head import headed
from mpt.prompts.prompted import Prompted, take_prompts
from mpt.rundir.directory import RunDir
from mpt.system.processes import agreed
from mpt.training.interpolation import between
from mpt.training.loop import Evaluation, Patience, train_stage
from mpt.training.session import SCORE
from mpt.training.stage import Stage
from mpt.types import Row

# Makes the model before training, with a prompt for each list of training rows.
Begin = Callable[[Sequence[Sequence[Row]]], Start]

Option = TypeVar("Option")
LOSS = "held-out loss"
RISE = 4  # warm-up steps of a stage
LEAST = 8  # steps on all rows, if there are any
CLEARLY = 0.9  # fraction of the lowest loss after steps; an untrained start below it is not trained


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        factor: the factor on the learning rates.
        steps: number of training steps.
        more: number of steps on all rows that are to follow.
        rates: factor -> the held-out loss when the rates were compared, in nats.
        curve: (step, held-out loss) with the chosen rate.
        scores: the class scores of the held-out rows at the best evaluation; None for free text.
        model: the model at the best evaluation, with one prompt, as it was trained.
        seconds: spent in training steps.
        start: what the chosen prompt started from.
        starts: start -> its lowest held-out loss at the first evaluation; empty if they were not compared.
        part: the weight of the trained values in the prompt to keep; the untrained ones have the rest.
    """

    factor: float
    steps: int
    more: int
    rates: dict[float, float]
    curve: list[tuple[int, float]]
    scores: Scores | None
    model: Prompted
    seconds: float
    start: str = ""
    starts: Mapping[str, float] = field(default_factory=dict)
    part: float = 1.0

    @classmethod
    def of(
        cls,
        rates: dict[float, float],
        curve: list[tuple[int, float]],
        model: Prompted,
        candidates: Sequence[Candidate],
        seconds: float,
        kept: Prompted | None = None,
    ) -> Found:
        """The outcome of the candidates of one rate.

        Args:
            model: at the best evaluation, with a prompt for each candidate; the first one's is kept.
            kept: the same with the values to keep, if these are not the trained ones.
        """
        steps = min(curve, key=lambda at: at[1])[0]
        factor, split = candidates[0]
        scores = held_out_scores(kept or model, candidates, factor) if split.held_out[0].choices else None
        more = max(math.ceil(steps / 2), LEAST) if steps and split.given_back else 0
        if len(candidates) > 1:
            model = take(model, [0])
        return cls(factor, steps, more, rates, curve, scores, model, seconds)


class FirstLook(NamedTuple):
    """The results of one start's learning rates at the first evaluation.

    Attributes:
        begun: the start, with all prompts as trained so far.
        untrained: the model with all prompts untrained.
        candidates: those prompts.
        before: the held-out losses of the untrained prompts, in nats.
        rates: factor -> the held-out losses, in nats, on the same rows for all rates.
        seconds: spent in training steps.
        others: seconds spent on compilation and evaluation.
        part: the weight of the trained values in the evaluated prompts.
    """

    begun: Start
    untrained: Prompted
    candidates: Sequence[Candidate]
    before: Float[np.ndarray, " N"]
    rates: dict[float, Float[np.ndarray, " N"]]
    seconds: float
    others: float
    part: float = 1.0

    def between(self, model: Prompted) -> Prompted:
        """The prompts to evaluate: in between the untrained ones and those of a model."""
        return between(self.untrained, model, self.part, self.begun.trainable)

    @property
    def least(self) -> Float[np.ndarray, " N"]:
        """The held-out losses with the lowest mean so far."""
        return min((self.before, *self.rates.values()), key=np.mean)

    @property
    def factor(self) -> float:
        """The best factor; among equal ones, the one nearest to 1."""
        return min(self.rates, key=lambda factor: (self.rates[factor].mean(), abs(math.log(factor))))

    def best(self) -> FirstLook:
        """The prompts of the best rate alone."""
        chosen = [index for index, each in enumerate(self.candidates) if each.factor == self.factor]
        kept = [self.candidates[index] for index in chosen]
        untrained, model = (take(each, chosen) for each in (self.untrained, self.begun.model))
        return self._replace(begun=self.begun._replace(model=model), untrained=untrained, candidates=kept)


@dataclass(frozen=True)
class Search:
    """Finds the learning rate and the number of steps for the prompt of one task and one seed.

    Attributes:
        splits: the rows that prompts are trained and evaluated on, see ``splits_of``.
        begins: name of a start -> how prompts begin; whole models use the first.
        name: the suffix of the names of its stages.
        limit: when the adaptation must be finished.
    """

    setting: Setting
    splits: Sequence[Split]
    begins: Mapping[str, Begin]
    options: SearchConfig
    run: RunDir
    name: str
    limit: Limit

    def side_by_side(self) -> Found:
        """Tries all learning rates in one job, and finds how many steps the best of them needs."""
        looks = {start: self.first_look(start) for start in self.begins}
        start = chosen({start: look.least for start, look in looks.items()})
        look, every = looks[start].best(), self.looks_every
        per_row = look.seconds / (self.options.rows * len(looks[start].candidates) * every)
        # Two more programs will be compiled: that of the next stage, and that of the last.
        left = self.limit.left(per_row, more=2 * look.others)
        most = min(self.most_steps - every, self.affordable(left, per_row, look.candidates))
        stage = self.stage("steps", look.begun, look.candidates, int(most))
        model, curve, seconds = self.until_best(stage, look.candidates, every, look.between)
        before, curve = float(look.before.mean()), [(every + step, loss) for step, loss in curve]
        untrained, rates = [(0, before)], {factor: float(each.mean()) for factor, each in look.rates.items()}
        seconds += look.seconds
        if before < CLEARLY * min(loss for _, loss in curve):
            found = Found.of(rates, untrained + curve, look.untrained, look.candidates, seconds)
        else:
            part = self.best_part(look, model)
            kept = look._replace(part=part).between(model)
            found = Found.of(rates, curve, model, look.candidates, seconds, kept)
            found = replace(found, part=part)
        compared = {start: float(each.least.mean()) for start, each in looks.items()}
        compared = compared if len(compared) > 1 else {}
        return replace(found, curve=untrained + curve, start=start, starts=compared)

    def first_look(self, start: str) -> FirstLook:
        """Trains all learning rates from one start side by side, up to the first evaluation."""
        began, title = time.monotonic(), "rates" if start == next(iter(self.begins)) else "rates-scratch"
        candidates = [Candidate(factor, split) for factor in self.options.rates for split in self.splits]
        learnt = [candidate.split.learnt for candidate in candidates]
        begun = self.begins[start](learnt)
        untrained = calibrated_start(begun.model, learnt)
        begun = begun._replace(model=untrained)
        before = held_out_losses(untrained, candidates, candidates[0].factor)
        model, seconds = train_stage(self.stage(title, begun, candidates, self.looks_every), self.run)
        part = self.part(start)
        evaluated = between(untrained, model, part, begun.trainable)
        rates = {factor: held_out_losses(evaluated, candidates, factor) for factor in self.options.rates}
        others = time.monotonic() - began - seconds
        begun = begun._replace(model=model)
        return FirstLook(begun, untrained, candidates, before, rates, seconds, others, part)

    def part(self, start: str) -> float:
        """The weight of trained values in prompts of this start; below 1 for a universal prompt alone."""
        universal = self.setting.source and start == next(iter(self.begins))
        able = METHODS[self.setting.method].has_shared_part
        return self.options.interpolation if universal and able else 1.0

    def best_part(self, look: FirstLook, model: Prompted) -> float:
        """The weight of the trained values in the prompts to keep: 1 if these are clearly better."""
        if look.part == 1:
            return 1.0
        factor = look.candidates[0].factor
        models = {look.part: look.between(model), 1.0: model}
        return chosen({part: held_out_losses(each, look.candidates, factor) for part, each in models.items()})

    def in_turn(self) -> Found:
        """Tries learning rates one after another, each until nothing improves, on the first split alone.

        Each rate has an equal part of the time.
        """
        rates: dict[float, float] = {}
        (start, begin), *_ = self.begins.items()
        best, taken, seconds = None, 0, 0.0
        for factor in self.options.rates:
            candidates, steps = [Candidate(factor, self.splits[0])], self.most_steps
            if taken:  # how long a step takes is known by now
                per_row = seconds / (self.options.rows * taken)
                left = self.limit.left(per_row) / (len(self.options.rates) - len(rates))
                steps = int(min(steps, self.affordable(left, per_row, candidates)))
            stage = self.stage(f"x{factor:g}", begin([self.splits[0].learnt]), candidates, steps)
            model, curve, spent = self.until_best(stage, candidates, min(self.looks_every, steps))
            taken, seconds = taken + curve[-1][0], seconds + spent
            rates[factor] = min(loss for _, loss in curve)
            if rates[factor] == min(rates.values()):  # no other model stays in memory
                best = Found.of(rates, curve, model, candidates, seconds)
        assert best
        return replace(best, seconds=seconds, start=start)

    def until_best(
        self,
        stage: Stage,
        candidates: Sequence[Candidate],
        every: int,
        evaluated: Callable[[Prompted], Prompted] = lambda model: model,
    ) -> tuple[Prompted, list[tuple[int, float]], float]:
        """Trains candidates of one rate until nothing improves.

        Args:
            every: steps between evaluations on the held-out rows.
            evaluated: makes what is evaluated of the model.

        Returns:
            The best model, (step, held-out loss) of each evaluation, and the seconds of the steps.
        """
        factor = candidates[0].factor

        def look(model: Prompted) -> dict[str, float]:
            value = float(held_out_losses(evaluated(model), candidates, factor).mean())
            return {LOSS: value, SCORE: -math.log(max(value, 1e-9))}

        patience = Patience(self.options.patience, self.options.gain)
        model, seconds = train_stage(stage, self.run, Evaluation(look, every, best=True, patience=patience))
        lines = self.run.metrics(stage.name).read()
        return model, [(int(line["step"]), line[LOSS]) for line in lines if LOSS in line], seconds

    def stage(self, title: str, begun: Start, candidates: Sequence[Candidate], steps: int) -> Stage:
        """A stage in which all candidates train side by side.

        Args:
            title: a part of its name.
        """
        train = replace(
            self.setting.train,
            steps=steps,
            epochs=0.0,
            batch_size=self.options.rows * len(candidates),
            microbatches=1,
            warmup=rising(steps),
            decay="constant",
            sampling="equal",
            shares=(),
            save_every=steps,  # evaluations save checkpoints
        )
        return Stage(
            f"search-{title}{self.name}",
            begun.model,
            [headed(begun.model.prompt, candidate.split.learnt) for candidate in candidates],
            train,
            tasks=[self.setting.tasks[0].name] * len(candidates),
            trainable=begun.trainable,
            weight_rate=begun.weight_rate,
            rate_scale=[candidate.factor for candidate in candidates],
            seed=self.setting.seeds[0],
        )

    @property
    def looks_every(self) -> int:
        """Steps between evaluations: a quarter of a pass over the rows, within bounds."""
        quarter = math.ceil(len(self.splits[0].learnt) / (4 * self.options.rows))
        return min(max(quarter, self.options.every), 4 * self.options.every)

    @property
    def most_steps(self) -> int:
        """Maximum number of steps of a prompt: ``steps``, or ``epochs`` passes over many rows."""
        passes = self.options.epochs * len(self.splits[0].learnt) / self.options.rows
        return max(self.options.steps, math.ceil(passes))

    def affordable(self, left: float, per_row: float, candidates: Sequence[Candidate]) -> float:
        """The number of steps that these candidates can take in ``left`` seconds; see ``time_limit``."""
        held_out = sum(len(candidate.split.held_out) for candidate in candidates)
        rows, rows_after = self.options.rows * len(candidates), self.setting.train.batch_size
        return agreed(affordable(left, per_row, rows, held_out, self.options.every, rows_after))


def chosen(options: Mapping[Option, Float[np.ndarray, " N"]]) -> Option:
    """The first of several options, unless another's loss is lower by more than a standard error.

    Args:
        options: the losses of each on the same rows; the standard error is that of their differences.

    >>> close, apart = np.array([0.2, 0.9, 0.8]), np.array([0.2, 0.3, 0.2])
    >>> given = np.array([0.6, 0.7, 0.8])
    >>> chosen({"given": given, "scratch": close}), chosen({"given": given, "scratch": apart})
    ('given', 'scratch')
    """
    best, *others = options
    for other in others:
        gaps = options[best] - options[other]
        if gaps.mean() > gaps.std() / math.sqrt(max(len(gaps) - 1, 1)):
            best = other
    return best


def take(model: Prompted, indices: Sequence[int]) -> Prompted:
    """The model with some of its prompts."""
    return Prompted(model.backbone, take_prompts(model.prompt, indices))


def rising(steps: int) -> float:
    """The warm-up as a fraction of a stage's steps."""
    return min(0.5, RISE / steps) if steps else 0.0
