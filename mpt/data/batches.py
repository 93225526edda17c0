"""Rows become arrays: laid end to end, and filled up to a few sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mpt.types import Batch, Layout, Row, Shards


def bucket(count: int, parts: int) -> int:
    """The next of a few sizes: 16, and ``parts`` between each power of two and the next.

    Each distinct size is compiled once; at most one part in ``parts`` is wasted.

    >>> [bucket(count, 4) for count in (3, 16, 17, 32, 33)]
    [16, 16, 20, 32, 40]
    """
    step = max(2 ** ((max(count, 16) - 1).bit_length() - 1) // parts, 1)
    return max(-(-count // step) * step, 16)


class Sizes(NamedTuple):
    """The lengths of a batch's axes, rounded up: N tokens, T cells to a row, L targets."""

    tokens: int
    cells: int
    targets: int

    @classmethod
    def of(cls, rows: Sequence[Row], layout: Layout) -> Sizes:
        lengths = [text_length(row, layout) for row in rows]
        # Padding costs a cell of the grid little, a token much.
        return cls(bucket(sum(lengths), 8), bucket(max(lengths), 2), max(len(row.targets) for row in rows))


def text_length(row: Row, layout: Layout) -> int:
    """Tokens read of a row. A decoder reads its targets too, but for the last: that is predicted."""
    return len(row.inputs) + (len(row.targets) - 1 if layout == "decoder" else 0)


def collate(
    rows: Sequence[Row],
    prompt_index: Sequence[int],
    layout: Layout = "decoder",
    sizes: Sizes | None = None,
) -> Batch:
    """Lays rows end to end; ``sizes`` are their own where left out."""
    count, length, width = sizes or Sizes.of(rows, layout)
    lengths = np.array([text_length(row, layout) for row in rows])
    starts, places = np.cumsum(lengths) - lengths, np.arange(length)
    grid = np.where(places < lengths[:, None], starts[:, None] + places, count)
    tokens, cells = np.zeros(count, np.int32), np.full(count, grid.size, np.int32)
    read = [(row.inputs, row.targets[:-1]) if layout == "decoder" else (row.inputs,) for row in rows]
    tokens[: lengths.sum()] = np.concatenate([part for parts in read for part in parts if len(part)])
    cells[: lengths.sum()] = np.flatnonzero(grid < count)
    labelled = np.arange(width) < np.array([len(row.targets) for row in rows])[:, None]
    targets = np.zeros(labelled.shape, np.int32)
    targets[labelled] = np.concatenate([row.targets for row in rows])
    first = starts + [len(row.inputs) - 1 for row in rows] if layout == "decoder" else np.zeros(len(rows))
    positions = np.where(labelled, first[:, None] + np.arange(width), 0)
    index, numbers = np.array([prompt_index, [row.number for row in rows]], np.int32)
    arrays: Any = (
        tokens,
        grid.astype(np.int32),
        cells,
        positions.astype(np.int32),
        targets,
        labelled,
        index,
        numbers,
    )
    return Batch(*arrays)  # NumPy's arrays on the host; a step sees JAX's


def collate_parts(
    rows: Sequence[Row],
    prompt_index: Sequence[int],
    parts: int,
    layout: Layout = "decoder",
    shards: Shards | None = None,
) -> Batch:
    """A batch as ``parts`` batches of one size, stacked.

    Args:
        shards: has each part dealt out further, and gives a process's own shards of it: every array has
            an axis of shards behind that of the parts.
    """
    count = shards.count if shards else 1
    hands = parts * count  # rows are dealt out in turn, and all hands have arrays of one size
    sizes = Sizes(*map(max, zip(*(Sizes.of(rows[hand::hands], layout) for hand in range(hands)))))

    def part(place: int) -> Batch:
        own = [place * count + shard for shard in (shards.own if shards else (0,))]
        batches = [collate(rows[hand::hands], prompt_index[hand::hands], layout, sizes) for hand in own]
        return _stacked(batches) if shards else batches[0]

    return _stacked(list(map(part, range(parts))))


def _stacked(batches: Sequence[Batch]) -> Batch:
    return jax.tree.map(lambda *arrays: np.stack(arrays), *batches)
