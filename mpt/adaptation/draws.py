"""The data of an adaptation: the training rows of each seed, and the rows that it is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from mpt.data.batches import check_texts
from mpt.data.mixture import few_shot
from mpt.data.stored import StoredRows
from mpt.data.task import Task
from mpt.data.text.labelled import Labelled
from mpt.data.tokenise import warn_of_cut, warn_of_long_targets
from mpt.errors import warn
from mpt.loading.hf import Pretrained
from mpt.methods import AdaptConfig
from mpt.system.processes import is_multiprocess
from mpt.types import Row

CHECKED = 200  # validation rows on which a prompt is compared with baselines
MANY = 400  # training rows for which the validation split is held out
HELD_OUT = 200  # validation rows that a search holds out
TOLD = 5  # classes that one warning names
MOST = 2000  # training rows of a seed above which it is not: fitting baselines would take long


class Drawn(NamedTuple):
    """A task's training rows of each seed, and the rows that all seeds are evaluated and scored on.

    Attributes:
        places: the indices of the training rows among all that the task has.
        frequencies: number of training rows of each class, among all that the task has; empty for free text.
        validated: rows of the evaluations during training, see ``validate_every``.
        validation: rows of the validation split that a search may hold out.
        checked: validation rows on which a prompt is compared with baselines; None: it is not.
    """

    places: list[Sequence[int]]
    train: list[Sequence[Row]]
    validated: Labelled
    scored: Labelled
    frequencies: Int[np.ndarray, " C"]
    validation: Labelled = Labelled([], [])
    checked: Labelled | None = None


def draw(config: AdaptConfig, task: Task, pretrained: Pretrained) -> Drawn:
    """The rows of a task that an adaptation reads: those of each seed, and those that it is scored on."""
    per, length = config.shots_per, config.max_length
    places, train = training_rows(task, config.shots, config.seeds, length, pretrained, per)

    def scored(split: str, count: int) -> Labelled:
        return held_out(task, split, count, length, pretrained)

    validated = scored("validation", config.validation_rows) if config.validate_every else Labelled([], [])
    labels = _stored(task, length, pretrained).labels
    frequencies = np.bincount(labels[labels >= 0], minlength=len(task.choices))
    drawn = Drawn(places, train, validated, scored(config.scored, config.test_rows), frequencies)
    if config.train.is_open and min(map(len, train)) >= MANY:
        drawn = drawn._replace(validation=held_out_if_there(task, HELD_OUT, length, pretrained))
    if not is_measured(config, task) or max(map(len, train)) > MOST:
        return drawn
    if config.scored == "validation":
        return drawn._replace(checked=drawn.scored)
    return drawn._replace(checked=held_out_if_there(task, CHECKED, length, pretrained))


def held_out_if_there(task: Task, count: int, max_length: int, pretrained: Pretrained) -> Labelled:
    """``count`` rows of the validation split; none if there is no such split, or it is empty."""
    source = task.source
    is_stored = "validation" in source.stored_splits
    if not source.has("validation") or (not is_stored and next(task.load("validation"), None) is None):
        return Labelled([], [])
    return held_out(task, "validation", count, max_length, pretrained)


def is_measured(config: AdaptConfig, task: Task) -> bool:
    """Whether a prompt is compared with baselines: only for class words, and only in one process."""
    return config.baselines and not config.baseline and bool(task.choices) and not is_multiprocess()


def training_rows(
    task: Task,
    shots: int,
    seeds: Sequence[int],
    max_length: int,
    pretrained: Pretrained,
    per: Literal["class", "task"] = "class",
) -> tuple[list[Sequence[int]], list[Sequence[Row]]]:
    """Each seed's training rows: their indices among all that the task has, and the rows.

    Args:
        shots: rows of each class, or in all; 0 takes all rows.
        max_length: the most tokens of an input.
        per: what ``shots`` counts.
    """
    rows = _stored(task, max_length, pretrained)
    warn_of_few(task, rows.labels, shots, per)
    if not shots:
        warn_of_absent(task, rows.labels)
        return [range(len(rows))] * len(seeds), [rows] * len(seeds)
    places: list[Sequence[int]] = [few_shot(rows.labels, shots, seed, per) for seed in seeds]
    warn_of_absent(task, *(rows.labels[list(chosen)] for chosen in places))
    return places, [[rows[i] for i in chosen] for chosen in places]


def held_out(task: Task, split: str, count: int, max_length: int, pretrained: Pretrained) -> Labelled:
    """``count`` rows of a split, or all for 0."""
    examples, layout = task.sample(split, count), pretrained.backbone.layout
    rows = pretrained.encode(examples, max_length)
    warn_of_cut(f"{split} rows of task {task.name}", [row.lost for row in rows], max_length)
    warn_of_long_targets(task, split, rows)
    check_texts(rows, layout, f"task {task.name}: a {split} row")
    return Labelled(examples, rows)


def _stored(task: Task, max_length: int, pretrained: Pretrained) -> StoredRows:
    """All training rows of a task."""
    return pretrained.stored_rows(task, "train", max_length)


def warn_of_absent(task: Task, *draws: Int[np.ndarray, " _"]) -> None:
    """Warns of classes that have no row in one of several draws of training rows, given by their labels."""
    names = [
        f"'{word}'" for label, word in enumerate(task.choices) if any(label not in each for each in draws)
    ]
    if names:
        more = f" and {len(names) - TOLD} more classes" if len(names) > TOLD else ""
        warn(
            f"task {task.name} has 0 training rows of {', '.join(names[:TOLD])}{more}: these classes "
            "cannot be learned"
        )


def warn_of_few(
    task: Task, labels: Int[np.ndarray, " R"], shots: int, per: Literal["class", "task"] = "class"
) -> None:
    """Warns of classes that have fewer rows than requested, or of too few rows in total."""
    if per == "task":
        labels = np.full_like(labels, -1)
    few = [
        (count, f" of '{task.choices[label]}'" if label >= 0 else "")
        for label, count in zip(*np.unique(labels, return_counts=True))
        if count < shots
    ]
    if few:
        (count, kind), *others = few
        told = "".join(f", {count}{kind}" for count, kind in others[: TOLD - 1])
        more = f", few of {len(others) - TOLD + 1} more classes" if len(others) >= TOLD else ""
        warn(f"task {task.name} has {count} training rows{kind}{told}{more}, not {shots}; all are used")
