"""Collates tokenised rows into arrays: the texts are laid end to end and padded to a few sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mpt.types import Batch, Layout, Row, Shards


def bucket(count: int, sizes: int) -> int:
    """Rounds ``count`` up to one of a few sizes: 16, then ``sizes`` of them up to each next power of two.

    Each distinct size is compiled once; the padding is at most ``count / sizes``.

    >>> [bucket(count, 4) for count in (3, 16, 17, 32, 33)]
    [16, 16, 20, 32, 40]
    """
    spacing = max(2 ** ((max(count, 16) - 1).bit_length() - 1) // sizes, 1)
    return max(-(-count // spacing) * spacing, 16)


class Sizes(NamedTuple):
    """The lengths of a batch's axes after padding: N tokens in all, T tokens and L targets per row."""

    tokens: int
    cells: int
    targets: int

    @classmethod
    def of(cls, rows: Sequence[Row], layout: Layout) -> Sizes:
        """The sizes that a batch of these rows is padded to."""
        lengths = [text_length(row, layout) for row in rows]
        # Padding the grid costs little, padding the tokens costs much: they are rounded up more finely.
        return cls(bucket(sum(lengths), 8), bucket(max(lengths), 2), max(len(row.targets) for row in rows))


def text_length(row: Row, layout: Layout) -> int:
    """Number of tokens of a row that the model reads; a decoder also reads all targets but the last."""
    return len(row.inputs) + (len(row.targets) - 1 if layout == "decoder" else 0)


def collate(
    rows: Sequence[Row],
    prompt_index: Sequence[int],
    layout: Layout = "decoder",
    sizes: Sizes | None = None,
) -> Batch:
    """Collates rows into one batch, as NumPy arrays.

    Args:
        prompt_index: the index of each row's prompt.
        sizes: the lengths to pad the arrays to; computed from the rows if left out.
    """
    count, length, width = sizes or Sizes.of(rows, layout)
    lengths = np.array([text_length(row, layout) for row in rows])
    starts, columns = np.cumsum(lengths) - lengths, np.arange(length)
    grid = np.where(columns < lengths[:, None], starts[:, None] + columns, count)
    tokens, cells = np.zeros(count, np.int32), np.full(count, grid.size, np.int32)
    texts = [(row.inputs, row.targets[:-1]) if layout == "decoder" else (row.inputs,) for row in rows]
    tokens[: lengths.sum()] = np.concatenate([ids for text in texts for ids in text if len(ids)])
    cells[: lengths.sum()] = np.flatnonzero(grid < count)
    labelled = np.arange(width) < np.array([len(row.targets) for row in rows])[:, None]
    targets = np.zeros(labelled.shape, np.int32)
    targets[labelled] = np.concatenate([row.targets for row in rows])
    if layout == "decoder":
        first_label = starts + [len(row.inputs) - 1 for row in rows]
    else:
        first_label = np.zeros(len(rows))
    positions = np.where(labelled, first_label[:, None] + np.arange(width), 0)
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
    return Batch(*arrays)  # NumPy arrays on the host; a compiled step sees JAX arrays


def collate_microbatches(
    rows: Sequence[Row],
    prompt_index: Sequence[int],
    microbatches: int,
    layout: Layout = "decoder",
    shards: Shards | None = None,
) -> Batch:
    """Collates rows into microbatches of equal size, stacked along a leading axis.

    Args:
        microbatches: how many.
        shards: if given, each microbatch is split further into shards, and every array has a second axis
            for those shards that this process reads.
    """
    shard_count = shards.count if shards else 1
    groups = microbatches * shard_count  # rows are dealt out in turn, and all groups have the same sizes
    sizes = Sizes(*map(max, zip(*(Sizes.of(rows[group::groups], layout) for group in range(groups)))))

    def microbatch(index: int) -> Batch:
        selected = [index * shard_count + shard for shard in (shards.indices if shards else (0,))]
        batches = [collate(rows[i::groups], prompt_index[i::groups], layout, sizes) for i in selected]
        return _stacked(batches) if shards else batches[0]

    return _stacked(list(map(microbatch, range(microbatches))))


def _stacked(batches: Sequence[Batch]) -> Batch:
    return jax.tree.map(lambda *arrays: np.stack(arrays), *batches)
