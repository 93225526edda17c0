"""Collates tokenised rows into arrays: the texts are laid end to end and padded to a few sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mpt.data.class_tree import NO_TREE, Lines, TreeSizes, Trie, class_tree
from mpt.errors import UserError
from mpt.types import Batch, Ids, Layout, Row, Shards


def bucket(count: int, sizes: int) -> int:
    """Rounds ``count`` up to one of a few sizes: 16, then ``sizes`` of them up to each next power of two.

    Each distinct size is compiled once; the padding is at most ``count / sizes``.

    >>> [bucket(count, 4) for count in (3, 16, 17, 32, 33)]
    [16, 16, 20, 32, 40]
    """
    spacing = max(2 ** ((max(count, 16) - 1).bit_length() - 1) // sizes, 1)
    return max(-(-count // spacing) * spacing, 16)


class Sizes(NamedTuple):
    """The lengths of a batch's axes after padding: N tokens in all, T tokens and L targets per row.

    ``tree`` has those of the class words, where these are to be scored.
    """

    tokens: int
    cells: int
    targets: int
    tree: TreeSizes = NO_TREE

    @classmethod
    def of(cls, rows: Sequence[Row], layout: Layout, classes: bool = False) -> Sizes:
        """The sizes that a batch of these rows is padded to.

        Args:
            classes: whether to score the rows' class words, instead of the targets of rows that have some.
        """
        tree = _rounded(TreeSizes.of(rows), len(rows)) if classes else NO_TREE
        lengths = [read_length(row, layout, classes) for row in rows]
        # Padding the grid costs little, padding the tokens costs much: they are rounded up more finely. Most
        # of a text with class words are these, which are the same in every row: the sums differ little.
        finer = 2 if tree.nodes else 1
        targets = max(len(row.targets) for row in as_read(rows, classes))
        return cls(bucket(sum(lengths), 8 * finer), bucket(max(lengths), 2 * finer), targets, tree)

    @classmethod
    def largest(cls, sizes: Sequence[Sizes]) -> Sizes:
        """The sizes into which all of these fit."""
        return jax.tree.map(lambda *each: max(each), *sizes)


def group_sizes(rows: Sequence[Row], groups: int, layout: Layout, classes: bool) -> Sizes:
    """The sizes of rows that are distributed evenly over groups; all groups have the same sizes."""
    return Sizes.largest([Sizes.of(rows[group::groups], layout, classes) for group in range(groups)])


def _rounded(tree: TreeSizes, rows: int) -> TreeSizes:
    """The lengths of a class tree's axes after padding; nodes are expensive, the rest is cheap."""
    if not tree.classes:
        return tree
    nodes = tree.branches - rows
    return TreeSizes(
        bucket(tree.nodes, 4) if nodes else 0,
        rows + (bucket(nodes, 8) if nodes else 0),
        *(bucket(count, 2) for count in tree[2:]),
    )


def as_read(rows: Sequence[Row], classes: bool) -> Sequence[Row]:
    """The rows without the targets of those whose class words are scored instead."""
    return [row._replace(targets=()) if row.choices else row for row in rows] if classes else rows


def _nodes(row: Row, layout: Layout, tree: TreeSizes) -> Ids:
    """The tokens of a row's class tree that come after its text."""
    return Trie.of(row.choices).tokens if tree.classes and layout == "decoder" else ()


def text_length(row: Row, layout: Layout) -> int:
    """Number of tokens of a row that the model reads; a decoder also reads all targets but the last."""
    return len(row.inputs) + (max(len(row.targets) - 1, 0) if layout == "decoder" else 0)


def read_length(row: Row, layout: Layout, classes: bool) -> int:
    """Number of tokens of a row that the model reads, with the inner nodes of a decoder's class tree."""
    if not classes or not row.choices:
        return text_length(row, layout)
    nodes = len(Trie.of(row.choices).tokens) if layout == "decoder" else 0
    return text_length(row._replace(targets=()), layout) + nodes


def check_texts(rows: Sequence[Row], layout: Layout, name: str) -> None:
    """Refuses an input without tokens, because a decoder could not predict anything from it.

    Args:
        name: what the rows are called in the error.
    """
    if layout == "decoder" and not all(len(row.inputs) for row in rows):
        raise UserError(f"{name} is an empty text: there is nothing to read; leave it out")


def collate(
    rows: Sequence[Row],
    prompt_index: Sequence[int],
    layout: Layout = "decoder",
    sizes: Sizes | None = None,
) -> Batch:
    """Collates rows into one batch, as NumPy arrays.

    Args:
        prompt_index: the index of each row's prompt.
        sizes: the lengths to pad the arrays to; computed from the rows if left out. If they have a tree, the
            class words of the rows are scored.

    Raises:
        UserError: an input of a decoder has no token.
    """
    check_texts(rows, layout, "a row")
    count, length, width, tree = sizes or Sizes.of(rows, layout)
    rows = as_read(rows, tree.classes > 0)
    nodes = [_nodes(row, layout, tree) for row in rows]
    texts = np.array([text_length(row, layout) for row in rows])
    lengths = texts + [len(ids) for ids in nodes]
    starts, columns = np.cumsum(lengths) - lengths, np.arange(length)
    grid = np.where(columns < lengths[:, None], starts[:, None] + columns, count)
    tokens, cells = np.zeros(count, np.int32), np.full(count, grid.size, np.int32)
    parts = [
        (row.inputs, row.targets[:-1] if layout == "decoder" else (), own) for row, own in zip(rows, nodes)
    ]
    tokens[: lengths.sum()] = np.concatenate([ids for part in parts for ids in part if len(ids)])
    cells[: lengths.sum()] = np.flatnonzero(grid < count)
    labelled = np.arange(width) < np.array([len(row.targets) for row in rows])[:, None]
    targets = np.zeros(labelled.shape, np.int32)
    if labelled.any():
        targets[labelled] = np.concatenate([row.targets for row in rows])
    if layout == "decoder":
        first_label = starts + [len(row.inputs) - 1 for row in rows]
    else:
        first_label = np.zeros(len(rows), int)
    predicting = np.arange(max(width, 1)) < np.maximum(labelled.sum(axis=1, keepdims=True), 1)
    positions = np.where(predicting, first_label[:, None] + np.arange(max(width, 1)), 0)
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
    batch = Batch(*arrays)  # NumPy arrays on the host; a compiled step sees JAX arrays
    if not tree.classes:
        return batch
    lines = Lines(length, texts, texts, starts)
    if layout == "encoder-decoder":
        read, before = predicting.sum(axis=1), predicting.shape[1]
        cells_of_row = before + tree.nodes
        lines = Lines(cells_of_row, read, np.full(len(rows), before), cells_of_row * np.arange(len(rows)))
    return batch._replace(classes=class_tree(rows, texts, layout, lines, tree))


def collate_microbatches(
    rows: Sequence[Row],
    prompt_index: Sequence[int],
    microbatches: int,
    layout: Layout = "decoder",
    shards: Shards | None = None,
    classes: bool = False,
    least: Sizes | None = None,
) -> Batch:
    """Collates rows into microbatches of equal size, stacked along a leading axis.

    Args:
        microbatches: how many.
        shards: if given, each microbatch is split further into shards, and every array has a second axis
            for those shards that this process reads.
        classes: whether to score the rows' class words; see ``Sizes.of``.
        least: the minimum sizes of the arrays.
    """
    shard_count = shards.count if shards else 1
    groups = microbatches * shard_count
    sizes = group_sizes(rows, groups, layout, classes)
    sizes = Sizes.largest([sizes, least]) if least else sizes

    def microbatch(index: int) -> Batch:
        selected = [index * shard_count + shard for shard in (shards.indices if shards else (0,))]
        batches = [collate(rows[i::groups], prompt_index[i::groups], layout, sizes) for i in selected]
        return _stacked(batches) if shards else batches[0]

    return _stacked(list(map(microbatch, range(microbatches))))


def _stacked(batches: Sequence[Batch]) -> Batch:
    return jax.tree.map(lambda *arrays: np.stack(arrays), *batches)
