"""Chooses the rows of each batch as a pure function of (seed, step), so that a run can resume anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import grain
import numpy as np
from jaxtyping import Float, Int

from mpt.config.options import TrainConfig
from mpt.data.batches import Sizes, collate_microbatches, group_sizes
from mpt.data.stored import StoredRows
from mpt.errors import UserError
from mpt.types import Batch, Layout, Row, Shards

# The batches of a stage of no more steps all have one size: compiling a program for another takes
# longer than what so few steps lose by padding. In a longer stage only the number of tokens varies.
SHORT = 100


def training_batches(
    rows: Sequence[Sequence[Row]],
    config: TrainConfig,
    seed: int,
    layout: Layout = "decoder",
    shards: Shards | None = None,
) -> grain.MapDataset[Batch]:
    """The batches of a training stage, each split into ``config.microbatches`` microbatches.

    Batch ``i`` depends only on the arguments and ``i``.

    Args:
        rows: the rows of each task; task ``j`` uses prompt ``j``.
        config: gives the number of steps, the batch size (over all tasks and devices) and the sampling.
        shards: the shards of every batch that this process reads; see ``collate_microbatches``.

    Raises:
        UserError: ``config.shares`` does not have one entry per task, or a batch cannot be split equally.
    """
    weights, size = shares(list(map(len, rows)), config), config.batch_size
    if shards and size % (groups := config.microbatches * shards.count):
        raise UserError(
            f"batch_size: {size} rows cannot be divided into {config.microbatches} microbatches × "
            f"{shards.count} shards (data × fsdp of the mesh); make it a multiple of {groups}, or choose "
            "another mesh"
        )
    in_turn = config.sampling == "equal"
    draw_some = {"proportional": _proportional, "stochastic": _stochastic}
    orders = [_order(task, seed + j, config.balanced) for j, task in enumerate(rows)]
    offsets = np.cumsum([0, *map(len, rows)])  # from an index within a task to a number over all tasks

    def draw(step: int, rng: np.random.Generator) -> tuple[list[Row], list[int]]:
        before = step * size
        if in_turn:
            tasks = [row % len(rows) for row in range(before, before + size)]
        else:
            tasks = draw_some[config.sampling](weights, size, rng)
        # Each step reads its own stretch of a task's stream, so that no row repeats before its epoch ends.
        places = [_turns(before, task, len(rows)) if in_turn else before for task in range(len(rows))]
        chosen = []
        for task in tasks:
            index = int(orders[task][places[task]])
            chosen.append(rows[task][index]._replace(number=int(offsets[task]) + index))
            places[task] += 1
        return chosen, tasks

    drawn = grain.MapDataset.range(config.steps).seed(seed).random_map(draw)
    groups, classes = config.microbatches * (shards.count if shards else 1), config.objective == "classes"
    first = [group_sizes(chosen, groups, layout, classes) for chosen, _ in drawn[:SHORT]]
    least = Sizes.largest(first) if first else None
    if least and config.steps > SHORT:
        least = least._replace(tokens=0)

    def batch(drawn: tuple[list[Row], list[int]]) -> Batch:
        return collate_microbatches(*drawn, config.microbatches, layout, shards, classes, least)

    return drawn.map(batch)


def _order(rows: Sequence[Row], seed: int, balanced: bool) -> Any:
    """An endless stream of row indices, shuffled in each epoch; ``balanced`` alternates classes."""
    if not balanced:
        return grain.MapDataset.range(len(rows)).seed(seed).shuffle().repeat()
    labels = rows.labels if isinstance(rows, StoredRows) else np.array([row.label for row in rows])
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return grain.MapDataset.mix(
        [grain.MapDataset.source(members.tolist()).seed(seed).shuffle().repeat() for members in classes]
    )


def in_steps(config: TrainConfig, counts: Sequence[int]) -> TrainConfig:
    """``config`` with the number of steps that its epochs take over tasks of ``counts`` rows, if it has any.

    >>> in_steps(TrainConfig(epochs=2.0, batch_size=8), [100, 33]).steps
    34
    """
    steps = math.ceil(config.epochs * sum(counts) / config.batch_size)
    return replace(config, steps=steps) if config.epochs else config


def shares(counts: Sequence[int], config: TrainConfig) -> Float[np.ndarray, " J"]:
    """The probability of drawing each task: from ``config.shares``, or else from its number of rows.

    Numbers of rows are capped, then raised to the power 1/temperature (Raffel et al. 2020, section 3.5.2).

    >>> shares([100, 400], TrainConfig(temperature=2.0)).round(3)
    array([0.333, 0.667])
    """
    if config.shares and len(config.shares) != len(counts):
        raise UserError(f"shares: {len(config.shares)} are given for {len(counts)} tasks; give one for each")
    weights = np.array(config.shares or [min(count, config.share_cap) for count in counts], float)
    weights **= 1 / config.temperature
    return weights / weights.sum()


def _turns(rows: int, task: int, tasks: int) -> int:
    """How many of so many rows are a task's, where the tasks have them in turn.

    >>> [_turns(5, task, 3) for task in range(3)]
    [2, 2, 1]
    """
    return -(-(rows - task) // tasks)


def _proportional(share: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[int]:
    """The task of each row, drawn with the probabilities ``share``."""
    return sorted(rng.choice(len(share), size=batch_size, p=share).tolist())


def _stochastic(share: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[int]:
    """The task of each row: 2 to J tasks, drawn with replacement, have equal parts of the batch.

    MPT's stochastic task sampling (Wang et al. 2023, section 3.2), as in its authors' later code.
    """
    count = rng.integers(2, len(share), endpoint=True) if len(share) > 2 else len(share)
    drawn = rng.choice(len(share), size=count, p=share)
    return sorted(int(drawn[row % count]) for row in range(batch_size))


def few_shot(
    labels: Sequence[int] | Int[np.ndarray, " R"],
    count: int,
    seed: int,
    per: Literal["class", "task"] = "class",
) -> list[int]:
    """Indices of ``count`` rows of each label, drawn without replacement; all rows, if there are fewer.

    Args:
        per: "task" draws ``count`` rows in all, whatever their labels.

    >>> labels = [0, 0, 0, 1, 1]
    >>> [labels[i] for i in few_shot(labels, 2, seed=0)]
    [0, 0, 1, 1]
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    if per == "task":
        return order[:count].tolist()
    shuffled = np.asarray(labels)[order]
    drawn = [order[shuffled == label][:count] for label in np.unique(shuffled)]
    return np.concatenate(drawn).tolist() if drawn else []
