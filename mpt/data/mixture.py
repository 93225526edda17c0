"""Which rows make which batch: a pure function of (seed, step), so any step can be resumed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import grain
import numpy as np

from mpt.config import TrainConfig
from mpt.data.batches import Batch, Layout, Row, collate_parts


def numbered(rows: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The rows of each task, numbered through all tasks."""
    number = itertools.count()
    return [[row._replace(number=next(number)) for row in task] for task in rows]


def training_batches(
    rows: Sequence[Sequence[Row]], config: TrainConfig, seed: int, layout: Layout = "decoder"
) -> grain.MapDataset[Batch]:
    """The batches of a run, each in ``config.parts``; batch ``i`` depends on the arguments and ``i`` only.

    Args:
        rows: the rows of each task; task ``j`` reads prompt ``j``.
        config: its steps, its batch size (rows over all tasks) and its sampling: "equal" gives each
            task the same number of rows in every batch; "stochastic" draws the number of tasks K
            from 2..J, then K tasks by their share of all rows (counted up to a cap), and splits the
            batch among them (MPT's stochastic task sampling, as its authors' later code has it).
    """
    streams = [
        grain.MapDataset.source(list(task)).seed(seed + j).shuffle().repeat() for j, task in enumerate(rows)
    ]
    counts = np.array([min(len(task), config.share_cap) for task in rows])
    share = counts / counts.sum()
    quotas, size = {"equal": _equal, "stochastic": _stochastic}[config.sampling], config.batch_size

    def batch(step: int, rng: np.random.Generator) -> Batch:
        tasks = quotas(share, size, rng)
        # A stream's own place per step: rows come back only when the stream has gone around.
        stride = size if config.sampling == "stochastic" else -(-size // len(rows))
        taken = np.zeros(len(rows), int)
        chosen = []
        for task in tasks:
            chosen.append(streams[task][step * stride + taken[task]])
            taken[task] += 1
        return collate_parts(chosen, tasks, config.parts, layout)

    return grain.MapDataset.range(config.steps).seed(seed).random_map(batch)


Quota = Callable[[np.ndarray, int, np.random.Generator], list[int]]


def _equal(share: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[int]:
    """Tasks in turn."""
    return [row % len(share) for row in range(batch_size)]


def _stochastic(share: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[int]:
    """K tasks drawn with replacement by ``share``; each gets an equal part of the batch."""
    count = rng.integers(2, len(share), endpoint=True) if len(share) > 2 else len(share)
    drawn = rng.choice(len(share), size=count, p=share)
    return sorted(int(drawn[row % count]) for row in range(batch_size))


def few_shot(labels: Sequence[int], per_class: int, seed: int) -> list[int]:
    """Places of ``per_class`` rows of each label, drawn without replacement; all, where fewer exist."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    kept = [[i for i in order if labels[i] == label][:per_class] for label in sorted(set(labels))]
    return [int(i) for group in kept for i in group]
