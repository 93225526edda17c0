"""Chooses an adaptation's learning rate and number of steps on rows that its prompts do not learn from.

Few rows are halved: one prompt learns from each half, and is scored on the other. Of more rows, a third is
held out; of many none, where there is a validation split. Candidate learning rates train side by side in one
job. After the first look the best of them goes on alone, as in successive halving, until nothing improves.
Its prompt then learns from all rows, with those that were held out, for half as many steps again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from mpt.adaptation.draws import MANY
from mpt.adaptation.held_out import Scores, class_scores, text_loss
from mpt.config.options import SearchConfig
from mpt.methods import Setting, Start
from mpt.prompts.class_head import headed
from mpt.prompts.prefix import Prompt
from mpt.prompts.prompted import Prompted
from mpt.rundir.directory import RunDir
from mpt.training.loop import Patience
from mpt.training.session import SCORE
from mpt.training.stage import Stage, train_stage
from mpt.types import Row

FEW = 48  # rows: fewer are halved
LOSS = "held-out loss"
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


class Split(NamedTuple):
    """Rows to learn from, and rows that are held out.

    Attributes:
        given_back: the held-out rows are training rows, to be learnt from in the end.
    """

    learnt: Sequence[Row]
    held_out: Sequence[Row]
    given_back: bool = True


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
        rates: factor -> the held-out loss at the first look, in nats.
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
    most: float = max(options.steps, math.ceil(options.epochs * len(splits[0].learnt) / options.rows)) - every
    per_row = seconds / (first.train.batch_size * every)
    # Two more programs will be compiled: that of the next stage, and that of the last.
    left = limit.left(2 * (time.monotonic() - began - seconds) + per_row * limit.rows * FORWARD)
    most = min(most, affordable(options, left, per_row, candidates, setting.train.batch_size))
    second = stage_of(f"search-steps{name}", begun, candidates, setting, options, int(most))

    def look(model: Prompted) -> dict[str, float]:
        value = held_out_loss(model, candidates, best)
        return {LOSS: value, SCORE: -math.log(max(value, 1e-9))}

    stop = Patience(options.patience, options.gain)
    model, more_seconds = train_stage(second, run, look, every, best=True, patience=stop)
    lines = run.metrics(second.name).read()
    curve = [(every + int(line["step"]), line[LOSS]) for line in lines if LOSS in line]
    steps = min(curve, key=lambda at: at[1])[0]
    scores = held_out_scores(model, candidates, best) if setting.tasks[0].choices else None
    more = math.ceil(steps / 2) if splits[0].given_back else 0
    one = Prompted(model.backbone, take_prompts(model.prompt, [0]))
    return Found(best, steps, more, rates, curve, scores, one, seconds + more_seconds)


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
        warmup=min(0.5, 4 / steps),
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


def splits_of(rows: Sequence[Row], validation: Sequence[Row], seed: int) -> list[Split]:
    """The rows to learn from and to hold out, alike in their classes.

    Args:
        validation: rows of the validation split, which are held out where there are many training rows.
    """
    if len(rows) >= MANY and validation:
        return [Split(rows, validation, given_back=False)]
    parts = 2 if len(rows) < FEW else 3
    order = np.random.default_rng(seed).permutation(len(rows))
    labels = np.array([rows[i].label for i in order.tolist()])
    dealt = np.empty(len(rows), int)
    for label in np.unique(labels):
        dealt[order[labels == label]] = np.arange(np.sum(labels == label)) % parts

    def split(part: int) -> Split:
        taken = [(row, at == part) for row, at in zip(rows, dealt)]
        return Split([row for row, out in taken if not out], [row for row, out in taken if out])

    return [split(part) for part in range(2 if len(rows) < FEW else 1)]


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


def take_prompts(prompt: Prompt, indices: Sequence[int]) -> Prompt:
    """Some of the prompts that train side by side: every array has one for each along its first axis."""
    assert isinstance(prompt, nnx.Module)
    graph, state = nnx.split(prompt)
    return nnx.merge(graph, jax.tree.map(lambda array: array[np.array(indices)], state))
