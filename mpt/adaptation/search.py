"""Chooses an adaptation's learning rate and number of steps on rows that its prompts do not learn from.

Few rows are halved: one prompt learns from each half, and is scored on the other. Of more rows, a third is
held out; of many none, where there is a validation split. Candidate learning rates train side by side in one
job; where prompts may start in two ways, each way has such a job. After the first look the best of all goes
on alone, as in successive halving, until nothing improves.
Its prompt then learns from all rows, with those that were held out, for half as many steps again; gently, for
the optimizer begins anew, and its first steps are as large as any, however little there is to gain. A start
that is clearly better untrained stays as it is. Whole models do not fit side by side: their rates are tried
one after another, each until nothing improves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mpt.adaptation.calibrated_start import calibrated_start
from mpt.adaptation.candidates import Candidate, held_out_losses, held_out_scores
from mpt.adaptation.held_out import Scores
from mpt.adaptation.splits import Split
from mpt.adaptation.time_limit import Limit, affordable
from mpt.config.adapt import SearchConfig
from mpt.methods import Setting, Start
from mpt.prompts.class_head import headed
from mpt.prompts.prompted import Prompted, take_prompts
from mpt.rundir.directory import RunDir
from mpt.system.processes import agreed
from mpt.training.loop import Patience
from mpt.training.session import SCORE
from mpt.training.stage import Stage, train_stage
from mpt.types import Row

# Makes the model before training, with a prompt for the rows of each list, which are those it learns from.
Begin = Callable[[Sequence[Sequence[Row]]], Start]

LOSS = "held-out loss"
RISE = 4  # steps in which a stage's learning rates rise
LEAST = 8  # steps on all rows, if there are any
CLEARLY = 0.9  # of the least loss after steps; below it a start is kept, though more rows follow in the end


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        factor: what the learning rates are multiplied by.
        steps: number of training steps.
        more: number of steps on all rows that are to follow.
        rates: factor -> the held-out loss when the rates were compared, in nats.
        curve: (step, held-out loss) with the chosen rate.
        scores: the class scores of the held-out rows at the best look; None for free text.
        model: the model at the best look, with one prompt.
        seconds: spent in training steps.
        start: what the chosen prompt started from.
        starts: start -> its least held-out loss at the first look; empty where they were not compared.
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

    @classmethod
    def of(
        cls,
        rates: dict[float, float],
        curve: list[tuple[int, float]],
        model: Prompted,
        candidates: Sequence[Candidate],
        seconds: float,
    ) -> Found:
        """The outcome of the candidates of one rate.

        Args:
            model: at the best look, with a prompt for each candidate; the first one's is kept.
        """
        steps = min(curve, key=lambda at: at[1])[0]
        factor, split = candidates[0]
        scores = held_out_scores(model, candidates, factor) if split.held_out[0].choices else None
        more = max(math.ceil(steps / 2), LEAST) if steps and split.given_back else 0
        if len(candidates) > 1:
            model = take(model, [0])
        return cls(factor, steps, more, rates, curve, scores, model, seconds)


class FirstLook(NamedTuple):
    """What the rates of one start came to at the first look.

    Attributes:
        begun: the start, with all prompts as they are now.
        untrained: the model with all prompts as they began.
        candidates: those prompts.
        before: the held-out losses of prompts as they began, in nats.
        rates: factor -> the held-out losses, in nats; of all rates, they are of the same rows.
        seconds: spent in training steps.
        others: seconds spent beside them, to compile and to look.
    """

    begun: Start
    untrained: Prompted
    candidates: Sequence[Candidate]
    before: Float[np.ndarray, " N"]
    rates: dict[float, Float[np.ndarray, " N"]]
    seconds: float
    others: float

    @property
    def least(self) -> Float[np.ndarray, " N"]:
        """The held-out losses whose mean is the least so far."""
        return min((self.before, *self.rates.values()), key=np.mean)

    @property
    def factor(self) -> float:
        """The best rate; of equals the one that changes least."""
        return min(self.rates, key=lambda factor: (self.rates[factor].mean(), abs(math.log(factor))))

    def best(self) -> FirstLook:
        """The prompts of the best rate alone."""
        chosen = [index for index, each in enumerate(self.candidates) if each.factor == self.factor]
        kept = [self.candidates[index] for index in chosen]
        untrained, model = (take(each, chosen) for each in (self.untrained, self.begun.model))
        return self._replace(begun=self.begun._replace(model=model), untrained=untrained, candidates=kept)


@dataclass(frozen=True)
class Search:
    """Finds how fast and how long the prompt of one task learns from the rows of one seed.

    Attributes:
        splits: what prompts learn from and are scored on, see ``splits_of``.
        begins: what prompts may start from -> how they begin; whole models take the first.
        name: the ending of the names of its stages.
        limit: when the adaptation has to be through.
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
        model, curve, seconds = self.until_best(stage, look.candidates, every)
        before, curve = float(look.before.mean()), [(every + step, loss) for step, loss in curve]
        untrained, rates = [(0, before)], {factor: float(each.mean()) for factor, each in look.rates.items()}
        seconds += look.seconds
        if before < CLEARLY * min(loss for _, loss in curve):
            found = Found.of(rates, untrained + curve, look.untrained, look.candidates, seconds)
        else:
            found = Found.of(rates, curve, model, look.candidates, seconds)
        compared = {start: float(each.least.mean()) for start, each in looks.items()}
        compared = compared if len(compared) > 1 else {}
        return replace(found, curve=untrained + curve, start=start, starts=compared)

    def first_look(self, start: str) -> FirstLook:
        """Trains all learning rates from one start side by side, up to the first look."""
        began, title = time.monotonic(), "rates" if start == next(iter(self.begins)) else "rates-scratch"
        candidates = [Candidate(factor, split) for factor in self.options.rates for split in self.splits]
        learnt = [candidate.split.learnt for candidate in candidates]
        begun = self.begins[start](learnt)
        untrained = calibrated_start(begun.model, learnt)
        begun = begun._replace(model=untrained)
        before = held_out_losses(untrained, candidates, candidates[0].factor)
        model, seconds = train_stage(self.stage(title, begun, candidates, self.looks_every), self.run)
        rates = {factor: held_out_losses(model, candidates, factor) for factor in self.options.rates}
        others = time.monotonic() - began - seconds
        return FirstLook(begun._replace(model=model), untrained, candidates, before, rates, seconds, others)

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
        self, stage: Stage, candidates: Sequence[Candidate], every: int
    ) -> tuple[Prompted, list[tuple[int, float]], float]:
        """Trains candidates of one rate until nothing improves.

        Args:
            every: steps between looks at the held-out rows.

        Returns:
            The model at the best look, (step, held-out loss) of each look, and the seconds of the steps.
        """
        factor = candidates[0].factor

        def look(model: Prompted) -> dict[str, float]:
            value = float(held_out_losses(model, candidates, factor).mean())
            return {LOSS: value, SCORE: -math.log(max(value, 1e-9))}

        stop = Patience(self.options.patience, self.options.gain)
        model, seconds = train_stage(stage, self.run, look, every, best=True, patience=stop)
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
            parts=1,
            warmup=rising(steps),
            decay="constant",
            sampling="equal",
            shares=(),
            save_every=steps,  # looks save what they see
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
        """Steps between looks: a quarter of a pass over the rows, within bounds."""
        quarter = math.ceil(len(self.splits[0].learnt) / (4 * self.options.rows))
        return min(max(quarter, self.options.every), 4 * self.options.every)

    @property
    def most_steps(self) -> int:
        """The most steps of a prompt: so many, or so many passes over many rows."""
        passes = self.options.epochs * len(self.splits[0].learnt) / self.options.rows
        return max(self.options.steps, math.ceil(passes))

    def affordable(self, left: float, per_row: float, candidates: Sequence[Candidate]) -> float:
        """The number of steps that these candidates can take in ``left`` seconds; see ``time_limit``."""
        held_out = sum(len(candidate.split.held_out) for candidate in candidates)
        rows, rows_after = self.options.rows * len(candidates), self.setting.train.batch_size
        return agreed(affordable(left, per_row, rows, held_out, self.options.every, rows_after))


def chosen(starts: Mapping[str, Float[np.ndarray, " N"]]) -> str:
    """The first of several starts, unless another's loss is less by more than a standard error.

    Args:
        starts: the losses of each on the same held-out rows, whose differences the error is of.

    >>> close, apart = np.array([0.2, 0.9, 0.8]), np.array([0.2, 0.3, 0.2])
    >>> given = np.array([0.6, 0.7, 0.8])
    >>> chosen({"given": given, "scratch": close}), chosen({"given": given, "scratch": apart})
    ('given', 'scratch')
    """
    best, *others = starts
    for other in others:
        gaps = starts[best] - starts[other]
        if gaps.mean() > gaps.std() / math.sqrt(max(len(gaps) - 1, 1)):
            best = other
    return best


def take(model: Prompted, indices: Sequence[int]) -> Prompted:
    """The model with some of its prompts."""
    return Prompted(model.backbone, take_prompts(model.prompt, indices))


def rising(steps: int) -> float:
    """The part of a stage's steps in which its learning rates rise."""
    return min(0.5, RISE / steps) if steps else 0.0
