"""Which rows make which batch: a pure function of (seed, step), so any step can be resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import grain
import numpy as np
from jaxtyping import Float, Int

from mpt.config.options import TrainConfig
from mpt.data.batches import collate_parts
from mpt.data.stored import StoredRows
from mpt.errors import UserError
from mpt.types import Batch, Layout, Row, Shards


def training_batches(
    rows: Sequence[Sequence[Row]],
    config: TrainConfig,
    seed: int,
    layout: Layout = "decoder",
    shards: Shards | None = None,
) -> grain.MapDataset[Batch]:
    """The batches of a run, each in ``config.parts``; batch ``i`` depends on the arguments and ``i`` only.

    Args:
        rows: the rows of each task; task ``j`` reads prompt ``j``.
        config: its steps, its batch size (rows over all tasks and devices) and its sampling.
        shards: those of every batch that this process reads; see ``collate_parts``.

    Raises:
        UserError: ``config.shares`` are not one for each task, or the rows of a batch cannot be dealt
            out equally.
    """
    share, size = shares(list(map(len, rows)), config), config.batch_size
    if shards and size % (hands := config.parts * shards.count):
        raise UserError(
            f"batch_size: {size} rows cannot be dealt out to {config.parts} parts × {shards.count} shards "
            f"(data × fsdp of the mesh); make it a multiple of {hands}, or choose another mesh"
        )
    quotas = {"equal": _equal, "proportional": _proportional, "stochastic": _stochastic}[config.sampling]
    # A stream's own place per step: rows come back only when the stream has gone around.
    stride = -(-size // len(rows)) if config.sampling == "equal" else size
    orders = [_order(task, seed + j, config.balanced) for j, task in enumerate(rows)]
    first = np.cumsum([0, *map(len, rows)])

    def batch(step: int, rng: np.random.Generator) -> Batch:
        tasks = quotas(share, size, rng)
        taken = [0] * len(rows)
        chosen = []
        for task in tasks:
            place = int(orders[task][step * stride + taken[task]])
            chosen.append(rows[task][place]._replace(number=int(first[task]) + place))
            taken[task] += 1
        return collate_parts(chosen, tasks, config.parts, layout, shards)

    return grain.MapDataset.range(config.steps).seed(seed).random_map(batch)


def _order(rows: Sequence[Row], seed: int, balanced: bool) -> Any:
    """Places of a task's rows, shuffled anew each time around; ``balanced`` takes its classes in turn."""
    if not balanced:
        return grain.MapDataset.range(len(rows)).seed(seed).shuffle().repeat()
    labels = rows.labels if isinstance(rows, StoredRows) else np.array([row.label for row in rows])
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return grain.MapDataset.mix(
        [grain.MapDataset.source(places.tolist()).seed(seed).shuffle().repeat() for places in classes]
    )


def in_steps(config: TrainConfig, counts: Sequence[int]) -> TrainConfig:
    """``config`` with its steps: as given, or those of its epochs over tasks of ``counts`` rows.

    >>> in_steps(TrainConfig(epochs=2.0, batch_size=8), [100, 33]).steps
    34
    """
    steps = math.ceil(config.epochs * sum(counts) / config.batch_size)
    return replace(config, steps=steps) if config.epochs else config


def shares(counts: Sequence[int], config: TrainConfig) -> Float[np.ndarray, " J"]:
    """Each task's share of the rows drawn: as given, or by its rows.

    Rows count up to a cap, and to the power 1/temperature (Raffel et al. 2020, section 3.5.2).

    >>> shares([100, 400], TrainConfig(temperature=2.0)).round(3)
    array([0.333, 0.667])
    """
    if config.shares and len(config.shares) != len(counts):
        raise UserError(f"shares: {len(config.shares)} are given for {len(counts)} tasks; give one for each")
    weights = np.array(config.shares or [min(count, config.share_cap) for count in counts], float)
    weights **= 1 / config.temperature
    return weights / weights.sum()


Quota = Callable[[np.ndarray, int, np.random.Generator], list[int]]


def _equal(share: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[int]:
    """Tasks in turn."""
    return [row % len(share) for row in range(batch_size)]


def _proportional(share: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[int]:
    """Each row's task drawn by ``share``."""
    return sorted(rng.choice(len(share), size=batch_size, p=share).tolist())


def _stochastic(share: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[int]:
    """K of 2..J tasks drawn with replacement by ``share``; each gets an equal part of the batch.

    MPT's stochastic task sampling (Wang et al. 2023, section 3.2), as its authors' later code has it.
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
    """Places of ``count`` rows of each label, or in all, drawn without replacement; all, if fewer exist.

    >>> labels = [0, 0, 0, 1, 1]
    >>> [labels[place] for place in few_shot(labels, 2, seed=0)]
    [0, 0, 1, 1]
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    if per == "task":
        return order[:count].tolist()
    shuffled = np.asarray(labels)[order]
    kept = [order[shuffled == label][:count] for label in np.unique(shuffled)]
    return np.concatenate(kept).tolist() if kept else []
