"""Chooses an adaptation's learning rate and number of steps on rows that its prompts do not learn from.

Few rows are halved: one prompt learns from each half, and is scored on the other. Of more rows, a third is
held out; of many none, where there is a validation split. Candidate learning rates train side by side in one
job. After the first look the best of them goes on alone, as in successive halving, until nothing improves.
Its prompt then learns from all rows, with those that were held out, for half as many steps again; gently, for
the optimizer begins anew, and its first steps are as large as any, however little there is to gain. Whole
models do not fit side by side: their rates are tried one after another, each until nothing improves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mpt.adaptation.held_out import Scores, class_scores, text_loss
from mpt.adaptation.splits import Split
from mpt.config.options import SearchConfig
from mpt.methods import Setting, Start
from mpt.prompts.class_head import headed
from mpt.prompts.prompted import Prompted, take_prompts
from mpt.rundir.directory import RunDir
from mpt.training.loop import Patience
from mpt.training.session import SCORE
from mpt.training.stage import Stage, train_stage
from mpt.types import Row

LOSS = "held-out loss"
RISE = 4  # steps in which a stage's learning rates rise
LEAST = 8  # steps on all rows, if there are any
FORWARD = 1 / 3  # the part of a training step that a forward pass takes


class Limit(NamedTuple):
    """When an adaptation has to be through.

    Attributes:
        at: the time by ``time.monotonic()``.
        rows: number of rows that are read behind the training, to score the prompt.
    """

    at: float = math.inf
    rows: int = 0

    def left(self, more: float) -> float:
        """The seconds that are left, with ``more`` seconds to go behind them."""
        return self.at - time.monotonic() - more


class Candidate(NamedTuple):
    """A prompt of the search.

    Attributes:
        factor: what its learning rates are multiplied by.
    """

    factor: float
    split: Split


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        factor: what the learning rates are multiplied by.
        steps: number of training steps.
        rates: factor -> the held-out loss when the rates were compared, in nats.
        more: number of steps on all rows that are to follow.
        curve: (step, held-out loss) with the chosen rate.
        scores: the class scores of the held-out rows at the best look; None for free text.
        model: the model at the best look, with one prompt.
        seconds: spent in training steps.
    """

    factor: float
    steps: int
    more: int
    rates: dict[float, float]
    curve: list[tuple[int, float]]
    scores: Scores | None
    model: Prompted
    seconds: float

    @classmethod
    def of(
        cls,
        factor: float,
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
        split = candidates[0].split
        scores = held_out_scores(model, candidates, factor) if split.held_out[0].choices else None
        more = max(math.ceil(steps / 2), LEAST) if steps and split.given_back else 0
        if len(candidates) > 1:
            model = Prompted(model.backbone, take_prompts(model.prompt, [0]))
        return cls(factor, steps, more, rates, curve, scores, model, seconds)


def search(
    setting: Setting,
    splits: Sequence[Split],
    begin: Callable[[int], Start],
    options: SearchConfig,
    run: RunDir,
    name: str,
    limit: Limit,
) -> Found:
    """Tries learning rates side by side, and finds how many steps the best of them needs.

    Args:
        setting: the adaptation of one task from the rows of one seed.
        splits: what its prompts learn from and are scored on, see ``splits_of``.
        begin: makes the model before training, with so many prompts side by side.
        name: the ending of the names of the search's stages.
        limit: when the adaptation has to be through.
    """
    began = time.monotonic()
    every = looks_every(splits, options)
    candidates = [Candidate(factor, split) for factor in options.rates for split in splits]
    begun = begin(len(candidates))
    first = stage_of(f"search-rates{name}", begun, candidates, setting, options, every)
    model, seconds = train_stage(first, run)
    rates = {factor: held_out_loss(model, candidates, factor) for factor in options.rates}
    best = min(rates, key=lambda factor: (rates[factor], abs(math.log(factor))))

    chosen = [index for index, candidate in enumerate(candidates) if candidate.factor == best]
    candidates = [candidates[index] for index in chosen]
    begun = begun._replace(model=Prompted(model.backbone, take_prompts(model.prompt, chosen)))
    per_row = seconds / (first.train.batch_size * every)
    # Two more programs will be compiled: that of the next stage, and that of the last.
    left = limit.left(2 * (time.monotonic() - began - seconds) + per_row * limit.rows * FORWARD)
    most = min(
        most_steps(splits, options) - every,
        affordable(options, left, per_row, candidates, setting.train.batch_size),
    )
    second = stage_of(f"search-steps{name}", begun, candidates, setting, options, int(most))
    model, curve, more_seconds = until_best(second, candidates, options, every, run)
    curve = [(every + step, loss) for step, loss in curve]
    return Found.of(best, rates, curve, model, candidates, seconds + more_seconds)


def search_in_turn(
    setting: Setting,
    splits: Sequence[Split],
    begin: Callable[[int], Start],
    options: SearchConfig,
    run: RunDir,
    name: str,
    limit: Limit,
) -> Found:
    """Tries learning rates one after another, each until nothing improves, on the first split alone.

    Each rate has an equal part of the time. The arguments are those of ``search``.
    """
    every, most = looks_every(splits, options), most_steps(splits, options)
    rates: dict[float, float] = {}
    best, taken, seconds = None, 0, 0.0
    for factor in options.rates:
        candidates, steps = [Candidate(factor, splits[0])], most
        if taken:  # how long a step takes is known by now
            per_row = seconds / (options.rows * taken)
            left = limit.left(per_row * limit.rows * FORWARD) / (len(options.rates) - len(rates))
            steps = int(min(most, affordable(options, left, per_row, candidates, setting.train.batch_size)))
        stage = stage_of(f"search-x{factor:g}{name}", begin(1), candidates, setting, options, steps)
        model, curve, spent = until_best(stage, candidates, options, min(every, steps), run)
        taken, seconds = taken + curve[-1][0], seconds + spent
        rates[factor] = min(loss for _, loss in curve)
        if rates[factor] == min(rates.values()):  # no other model stays in memory
            best = Found.of(factor, rates, curve, model, candidates, seconds)
    assert best
    return replace(best, seconds=seconds)


def until_best(
    stage: Stage, candidates: Sequence[Candidate], options: SearchConfig, every: int, run: RunDir
) -> tuple[Prompted, list[tuple[int, float]], float]:
    """Trains candidates of one rate until nothing improves.

    Returns:
        The model at the best look, (step, held-out loss) of each look, and the seconds of the steps.
    """
    factor = candidates[0].factor

    def look(model: Prompted) -> dict[str, float]:
        value = held_out_loss(model, candidates, factor)
        return {LOSS: value, SCORE: -math.log(max(value, 1e-9))}

    stop = Patience(options.patience, options.gain)
    model, seconds = train_stage(stage, run, look, every, best=True, patience=stop)
    lines = run.metrics(stage.name).read()
    return model, [(int(line["step"]), line[LOSS]) for line in lines if LOSS in line], seconds


def stage_of(
    name: str,
    begun: Start,
    candidates: Sequence[Candidate],
    setting: Setting,
    options: SearchConfig,
    steps: int,
) -> Stage:
    """A stage in which all candidates train side by side."""
    train = replace(
        setting.train,
        steps=steps,
        epochs=0.0,
        batch_size=options.rows * len(candidates),
        parts=1,
        warmup=rising(steps),
        decay="constant",
        sampling="equal",
        shares=(),
        save_every=steps,  # looks save what they see
    )
    return Stage(
        name,
        begun.model,
        [headed(begun.model.prompt, candidate.split.learnt) for candidate in candidates],
        train,
        tasks=[setting.tasks[0].name] * len(candidates),
        trainable=begun.trainable,
        weight_rate=begun.weight_rate,
        rate_scale=[candidate.factor for candidate in candidates],
        seed=setting.seeds[0],
    )


def rising(steps: int) -> float:
    """The part of a stage's steps in which its learning rates rise."""
    return min(0.5, RISE / steps) if steps else 0.0


def affordable(
    options: SearchConfig, left: float, per_row: float, candidates: Sequence[Candidate], batch_size: int
) -> float:
    """The number of steps behind the first look that are through in ``left`` seconds, at least one.

    Args:
        per_row: seconds that a step takes for each of its rows.
        candidates: the prompts that go on.
        batch_size: rows of a step on all rows, of which half as many steps follow.
    """
    held_out = sum(len(candidate.split.held_out) for candidate in candidates)
    look = per_row * FORWARD * held_out / options.every
    step = per_row * (options.rows * len(candidates) + batch_size / 2) + look
    return max((left - per_row * options.every * batch_size / 2) / step, 1)


def most_steps(splits: Sequence[Split], options: SearchConfig) -> int:
    """The most steps of a prompt: so many, or so many passes over many rows."""
    return max(options.steps, math.ceil(options.epochs * len(splits[0].learnt) / options.rows))


def looks_every(splits: Sequence[Split], options: SearchConfig) -> int:
    """Steps between looks: a quarter of a pass over the rows, within bounds."""
    quarter = math.ceil(len(splits[0].learnt) / (4 * options.rows))
    return min(max(quarter, options.every), 4 * options.every)


def held_out_loss(model: Prompted, candidates: Sequence[Candidate], factor: float) -> float:
    """The loss of a rate's prompts on the rows that each of them did not learn from."""
    if candidates[0].split.held_out[0].choices:
        return held_out_scores(model, candidates, factor).tempered_loss()
    rows, prompts = _held_out(candidates, factor)
    return text_loss(model, rows, prompts)


def held_out_scores(model: Prompted, candidates: Sequence[Candidate], factor: float) -> Scores:
    """The class scores of all held-out rows, each by the rate's prompt that did not learn from it."""
    return class_scores(model, *_held_out(candidates, factor))


def _held_out(candidates: Sequence[Candidate], factor: float) -> tuple[list[Row], list[int]]:
    pairs = [
        (row, index)
        for index, candidate in enumerate(candidates)
        if candidate.factor == factor
        for row in candidate.split.held_out
    ]
    return [row for row, _ in pairs], [index for _, index in pairs]
