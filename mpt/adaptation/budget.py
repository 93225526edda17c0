"""The number of steps and the learning rate of an adaptation, and the calibration of its scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from flax.nnx.filterlib import Filter
from jaxtyping import Float

from mpt.adaptation.calibrated_start import calibrated_start
from mpt.adaptation.draws import MANY, Drawn
from mpt.adaptation.held_out import class_scores
from mpt.adaptation.search import LEAST, Begin, Found, Search, rising
from mpt.adaptation.splits import Split, folds, splits_of
from mpt.adaptation.start import start
from mpt.adaptation.time_limit import Limit
from mpt.adaptation.weighing import ANY_TASK, FOLDS, Weighing, expected
from mpt.baselines import States
from mpt.config.adapt import SearchConfig
from mpt.methods import METHODS, Setting, Start
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.prompted import Prompted
from mpt.rundir.directory import RunDir, write_atomic
from mpt.rundir.plain_json import json_text
from mpt.training.interpolation import between
from mpt.training.stage import Lengths
from mpt.types import Row

FIXED_STEPS = 40  # where there is no search
GENTLE = 0.25  # factor on the learning rates that were found, for the steps on all rows


@dataclass(frozen=True)
class Budget:
    """What a job trains.

    Attributes:
        found: the outcome of the search, if there was one.
        weighing: the calibration of a class head's scores, if there is a class head.
        untrained: the model before training, if its values are a part of those to keep.
    """

    found: Found | None = None
    weighing: Weighing | None = None
    untrained: Prompted | None = None

    @property
    def factor(self) -> float:
        """What the learning rates of the steps on all rows are multiplied by."""
        return GENTLE * self.found.factor if self.found else 1.0

    def begun(self, start: Start) -> Start:
        """The model from which training continues: the outcome of the search, if there was one."""
        return start._replace(model=self.found.model) if self.found else start

    @property
    def spent(self) -> tuple[int, float]:
        """The steps and the seconds of the search."""
        return (self.found.steps, self.found.seconds) if self.found else (0, 0.0)

    def told(self) -> list[str]:
        """What was tried and chosen, in a sentence each."""
        if not self.found:
            return []
        found, loss_at = self.found, dict(self.found.curve)
        begun = f"{loss_at[0]:.2f} untrained, " if 0 in loss_at else ""
        tried = ", ".join(f"{loss:.2f} at ×{factor:g}" for factor, loss in found.rates.items())
        least = f"{loss_at[found.steps]:.2f} nats after {found.steps} steps"
        more = f", then {found.more} steps on all rows" if found.more else ""
        went = f"With ×{found.factor:g} it fell to {least}{more}."
        rates = (
            f"Learning rates: held-out loss {begun}{tried}. "
            f"{went if found.steps else 'Steps raised it clearly, so none was taken.'}"
        )
        starts = [told_of_starts(found.starts, found.start)] if found.starts else []
        mixed = (
            f"Kept: {found.part:.0%} of the trained prompt, and {1 - found.part:.0%} of what it started from."
        )
        return [
            *starts,
            rates,
            *([mixed] if self.untrained else []),
            *([self.weighing.told()] if self.weighing else []),
        ]

    def kept(self, model: Prompted, trainable: Filter) -> Prompted:
        """What is kept of a trained model: all its values, or a part of them, with calibrated scores.

        Args:
            trainable: an NNX filter for the trained parameters.
        """
        if self.found and self.untrained:
            model = between(self.untrained, model, self.found.part, trainable)
        return self.weighing.applied(model) if self.weighing else model


def told_of_starts(losses: Mapping[str, float], taken: str) -> str:
    """Which start was taken, and the held-out loss of each at the first look.

    >>> told_of_starts({"runs/a": 0.9, "scratch": 0.8}, "runs/a")
    'Starts: held-out loss 0.90 from runs/a, 0.80 from scratch; runs/a was taken, as this may be chance.'
    """
    each = ", ".join(f"{loss:.2f} from {start}" for start, loss in losses.items())
    why = "" if losses[taken] == min(losses.values()) else ", as this may be chance"
    return f"Starts: held-out loss {each}; {taken} was taken{why}."


def with_budget(
    setting: Setting,
    drawn: Mapping[str, Drawn],
    run: RunDir,
    name: str,
    options: SearchConfig,
    limit: Limit,
    states: States,
) -> tuple[Setting, Budget]:
    """A job's setting with its number of steps, and its budget.

    Prompts that share a part, and prompts with too few rows to hold any out, have a fixed number of steps.
    """
    if not setting.train.is_open or not METHODS[setting.method].trained:
        return setting, Budget()
    if not is_searched(setting):
        return with_steps(setting, FIXED_STEPS), Budget()
    (rows,) = drawn.values()
    splits = splits_of(training_rows(setting), rows.validation.rows, setting.seeds[0])
    if not all(split.learnt and split.held_out for split in splits):
        return with_steps(setting, FIXED_STEPS), Budget()

    ways = {each.origin: each for each in starts(setting, options.scratch)}
    begins = {origin: begin_of(each) for origin, each in ways.items()}
    search = Search(setting, splits, begins, options, run, name, limit)
    found = search.side_by_side() if METHODS[setting.method].side_by_side else search.in_turn()
    setting, learnt = ways[found.start], training_rows(setting)

    @cache
    def untrained() -> Prompted:
        return calibrated_start(begins[found.start]([learnt]).model, [learnt])

    if not found.steps:
        found = replace(found, model=untrained())
    known = states if options.probe else None
    weighing = weighed(setting, splits, found, rows, known, untrained)
    budget = Budget(found, weighing, untrained() if found.part < 1 else None)
    keep_search(run, name, budget)
    return with_steps(setting, found.more, warmup=rising(found.more)), budget


def starts(setting: Setting, scratch: bool) -> list[Setting]:
    """The setting, and the same without its source, if its prompt can also start from scratch.

    Args:
        scratch: whether to consider the start from scratch.
    """
    (task,), method = setting.tasks, METHODS[setting.method]
    given = {"instruction": task.instruction, "text": setting.vectors.text, "classes": task.choices}
    possible = method.has_shared_part and not setting.freeze_shared and given.get(setting.vectors.start, True)
    return [setting, replace(setting, source=None)] if setting.source and scratch and possible else [setting]


def begin_of(setting: Setting) -> Begin:
    """Makes the start of several prompts with the setting's method, each for its own training rows."""

    def begin(rows: Sequence[Sequence[Row]]) -> Start:
        tasks, seeds = (list(each) * len(rows) for each in (setting.tasks, setting.seeds))
        return start(replace(setting, tasks=tasks, seeds=seeds, rows=rows))

    return begin


def weighed(
    setting: Setting,
    splits: Sequence[Split],
    found: Found,
    rows: Drawn,
    states: States | None,
    untrained: Callable[[], Prompted],
) -> Weighing | None:
    """The calibration of a class head's scores; None without a class head.

    Args:
        states: the hidden states of texts for linear probes; None leaves probes out.
        untrained: makes the model before training.
    """
    if found.scores is None or not isinstance(found.model.prompt, HeadedPrompt):
        return None
    learnt, before = training_rows(setting), ANY_TASK
    if states and len(learnt) < MANY:  # of many rows, enough are held out
        each = folds(learnt, FOLDS, setting.seeds[0])
        held_out = [row for fold in each for row in fold.held_out]
        before = expected(class_scores(untrained(), held_out, [0] * len(held_out)), each, states)
    weighing = Weighing.fit(found.scores, splits, learnt, states, before)
    return weighing.suited(setting.tasks[0].metric, prior(setting, rows))


def is_searched(setting: Setting) -> bool:
    """Whether the number of steps can be searched: prompts that share a part cannot have different ones."""
    return len(setting.tasks) == 1


def with_steps(setting: Setting, steps: int, **others: float) -> Setting:
    """The setting with that number of steps, and other options of its training."""
    return replace(setting, train=replace(setting.train, steps=steps, **others))


def at_most(setting: Setting, options: SearchConfig) -> Setting:
    """The setting with the most steps that can follow its search; for plans, which do not search."""
    if not setting.train.is_open:
        return setting
    counts = [rows.rows or 0 for rows in setting.rows if isinstance(rows, Lengths)]
    most = max(options.steps, math.ceil(options.epochs * max(counts, default=0) / options.rows))
    return with_steps(setting, max(math.ceil(most / 2), LEAST) if is_searched(setting) else FIXED_STEPS)


def prior(setting: Setting, rows: Drawn) -> Float[np.ndarray, " C"]:
    """The log-ratio of each class's frequency in the user's data to that among the drawn rows."""
    classes = len(setting.tasks[0].choices)
    drawn = np.bincount([row.label for row in training_rows(setting)], minlength=classes) + 1.0
    frequency = rows.frequencies + 1.0
    return np.log(frequency / frequency.sum()) - np.log(drawn / drawn.sum())


def training_rows(setting: Setting) -> Sequence[Row]:
    """The training rows of a setting's only prompt."""
    (rows,) = setting.rows
    assert not isinstance(rows, Lengths)
    return rows


def keep_search(run: RunDir, name: str, budget: Budget) -> None:
    """Writes what was tried and chosen."""
    found, weighing = budget.found, budget.weighing
    assert found
    facts = {
        "rates": {f"{factor:g}": loss for factor, loss in found.rates.items()},
        "chosen": found.factor,
        "held_out_loss": [list(point) for point in found.curve],
        "steps": found.steps,
        "steps_on_all_rows": found.more,
    }
    if budget.untrained:
        facts["interpolation"] = found.part
    if found.starts:
        facts |= {"starts": dict(found.starts), "start": found.start}
    if weighing:
        facts["weights"] = {"prompt": weighing.scale, "linear probes": list(weighing.probe_scales)}
    write_atomic(run.path / f"search{name}.json", json_text(facts, indent=2) + "\n")
