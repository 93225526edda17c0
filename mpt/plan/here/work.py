"""What a run computes apart from its training stages: the search for rates and steps, and evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mpt.adaptation.calibrated_start import CALIBRATED
from mpt.adaptation.draws import CHECKED, HELD_OUT, MANY, is_measured
from mpt.adaptation.splits import FEW
from mpt.adaptation.time_limit import FORWARD
from mpt.comparison.config import AnyConfig, CompareConfig
from mpt.comparison.entries import cells
from mpt.comparison.tuning import trial_seeds, tuned_methods
from mpt.config.adapt import SearchConfig
from mpt.config.continual import ContinualConfig
from mpt.config.pretrain import PretrainConfig
from mpt.data.task import LONGEST_TEXT
from mpt.inference.evaluate import BATCH
from mpt.methods import METHODS, AdaptConfig, for_tasks
from mpt.methods.examples import METHOD as EXAMPLES
from mpt.methods.examples import ExamplesConfig
from mpt.models.cost import batch_cost
from mpt.plan.reading import Reading, drawn
from mpt.training.stage import Stage


def search_flops(
    stage: Stage, options: SearchConfig, side_by_side: bool, validation: bool, starts: int = 1
) -> float | None:
    """The most FLOPs of the search that comes before a job's last stage; None where its rows are unknown.

    Args:
        stage: the last one, of one prompt.
        starts: how many starts are compared.
        validation: there are validation rows, which are held out where there are many training rows.
    """
    (rows,) = {lengths.rows for lengths in stage.lengths}
    if rows is None:
        return None
    parts, splits = (2, 2) if rows < FEW else (3, 1)
    learnt, held_out = rows * (parts - 1) // parts, rows // parts
    if rows >= MANY and validation:
        learnt, held_out = rows, HELD_OUT
    every = min(max(math.ceil(learnt / (4 * options.rows)), options.every), 4 * options.every)
    most = max(options.steps, math.ceil(options.epochs * learnt / options.rows))
    looks, per_row = math.ceil(most / every), stage.flops / stage.train.batch_size
    if not side_by_side:
        return len(options.rates) * per_row * (most * options.rows + looks * held_out * FORWARD)
    before = splits * (min(learnt, CALIBRATED) + held_out) * FORWARD
    first = len(options.rates) * splits * (every * options.rows + held_out * FORWARD)
    return per_row * (
        starts * (before + first) + splits * ((most - every) * options.rows + looks * held_out * FORWARD)
    )


def evaluation_flops(
    config: AnyConfig, tasks: Mapping[str, Sequence[Reading]], backbone: Any, length: int
) -> list[float | None]:
    """The FLOPs of each evaluation of a run; None where the number of its rows is unknown.

    Args:
        tasks: those of the config, see ``mpt.plan.stages.stages``.
        length: vectors of a prompt.
    """
    if isinstance(config, PretrainConfig):
        return [_of_gains(config, reading, backbone, length) for reading in tasks["source"]]
    if isinstance(config, ContinualConfig):
        per_row = [_of_row(reading, backbone, length) for reading in tasks["sequence"]]
        scored = [_least(reading.rows["test"], config.test_rows) for reading in tasks["sequence"]]
        times = len(per_row) + 1
        of_tasks = [None if rows is None else times * rows * one for rows, one in zip(scored, per_row)]
        return of_tasks * len(config.methods)
    if isinstance(config, AdaptConfig):
        return [_of_adaptation(config, reading, backbone, length) for reading in tasks["target"]]
    return [*_of_comparison(config, tasks, backbone, length)]


def _of_comparison(
    config: CompareConfig, tasks: Mapping[str, Sequence[Reading]], backbone: Any, length: int
) -> Iterator[float | None]:
    targets = dict(zip(config.targets, tasks["target"]))
    sources = dict(zip(config.pretrain.tasks, tasks["source"]))
    for reading in sources.values() if not config.source else ():
        yield _of_gains(config.pretrain, reading, backbone, length)
    for cell in cells(config):
        adapted = cell.entry.config(cell.base(config), "", config.scratch_rate)
        yield _of_adaptation(adapted, targets[cell.target], backbone, length)
    trials = len(tuned_methods(config)) * len(config.tune.factors) * len(trial_seeds(config))
    for name in config.tune.tasks if trials else ():
        rows = _least(sources[name].rows["validation"], config.tune.rows) if name in sources else None
        yield None if rows is None else trials * rows * _of_row(sources[name], backbone, length)


def _of_gains(config: PretrainConfig, reading: Reading, backbone: Any, length: int) -> float | None:
    """The FLOPs of measuring what a source task gained: three losses, and a gradient."""
    rows = _least(reading.rows["validation"], config.gain_rows) if config.gain_rows else 0
    return None if rows is None else (3 + 1 / FORWARD) * rows * _of_row(reading, backbone, length)


def _of_adaptation(config: AdaptConfig, reading: Reading, backbone: Any, length: int) -> float | None:
    """The FLOPs of the passes over rows that are scored, by prompts and by the baselines they are compared
    with."""
    task, seeds = reading.task, len(config.seeds)
    train = drawn(reading, config.shots, config.shots_per)
    scored = _least(reading.rows[config.scored], config.test_rows)
    if scored is None or train is None:
        return None
    alone = _of_row(reading, backbone, 0)
    if config.baseline:
        return (seeds * train + scored) * alone if config.baseline == "linear probe" else 0.0
    method = METHODS[for_tasks(config, [task]).method]
    measured = is_measured(config, task)
    checked = CHECKED if measured and reading.rows["validation"] else 0
    shown = ExamplesConfig().tokens
    own = _of_row(reading, backbone, shown if method is EXAMPLES else length)
    total = seeds * (scored + checked) * own
    if method.name == "classifier" and config.train.is_open and config.search.probe:
        total += seeds * (train + scored + checked) * alone
    if config.validate_every and method.trained:
        total += seeds * (2 + config.train.steps / config.validate_every) * config.validation_rows * own
    if measured:
        total += (seeds * train + scored + checked) * alone
        total += seeds * (scored + checked) * _of_row(reading, backbone, shown)
    return total


def _of_row(reading: Reading, backbone: Any, length: int) -> float:
    """The FLOPs of predicting a row after a prompt, which the rows of a batch share."""
    lengths = reading.lengths(None).scored(backbone.layout)
    text, labels = lengths.text, lengths.labels
    if reading.nodes is None:  # a text is generated
        text, labels = text + LONGEST_TEXT, LONGEST_TEXT
    return batch_cost(backbone, 1, length, [text] * BATCH, [labels] * BATCH).forward / BATCH


def _least(rows: int | None, count: int) -> int | None:
    """``count`` of a split's rows, or all for 0."""
    return rows if rows is None or not count else min(rows, count)
