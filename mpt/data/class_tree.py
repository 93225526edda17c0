"""Class words as trees of tokens, so that a text is read once however many classes it may have.

The inner nodes of a row's tree come after its text, and each attends to the text and to its ancestors. So the
output at a node is that of the text followed by the node's tokens, and log p(word | text) is the sum of log
p(token | parent) over the edges from the root, the end of the text, to the word. Leaves are not processed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mpt.types import ClassTree, Ids, Layout, Row


class Trie(NamedTuple):
    """The tree of a few words; its inner nodes are their proper beginnings, the root is the empty one.

    Attributes:
        tokens: the last token of each inner node but the root.
        depths: how many tokens each of these has.
        descends: True where the first of two of these nodes is the second or descends from it.
        parents: the inner node that each edge begins at; 0 is the root.
        labels: the token of each edge.
        paths: the edges of each word.
    """

    tokens: Int[np.ndarray, " W"]
    depths: Int[np.ndarray, " W"]
    descends: Bool[np.ndarray, "W W"]
    parents: Int[np.ndarray, " E"]
    labels: Int[np.ndarray, " E"]
    paths: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, words: Sequence[Ids]) -> Trie:
        """The tree of words, which are sequences of token ids; equal ones are made once.

        >>> tree = Trie.of([[5], [7, 8], [7, 9]])
        >>> tree.tokens.tolist(), tree.labels.tolist(), tree.paths
        ([7], [5, 7, 8, 9], ((0,), (1, 2), (1, 3)))
        """
        return _trie(tuple(tuple(map(int, word)) for word in words))


@lru_cache(1024)
def _trie(words: tuple[tuple[int, ...], ...]) -> Trie:
    nodes: dict[tuple[int, ...], int] = {(): 0}
    edges: dict[tuple[int, ...], int] = {}
    for word in words:
        for length in range(len(word)):
            nodes.setdefault(word[:length], len(nodes))
            edges.setdefault(word[: length + 1], len(edges))
    inner = [node for node in nodes if node]
    descends = [[node[: len(other)] == other for other in inner] for node in inner]
    return Trie(
        np.array([node[-1] for node in inner], np.int32),
        np.array([len(node) for node in inner], np.int32),
        np.array(descends, bool).reshape(len(inner), len(inner)),
        np.array([nodes[edge[:-1]] for edge in edges], np.int32),
        np.array([edge[-1] for edge in edges], np.int32),
        tuple(tuple(edges[word[: length + 1]] for length in range(len(word))) for word in words),
    )


class TreeSizes(NamedTuple):
    """The lengths of a class tree's axes after padding; all are 0 where no row has class words.

    Attributes:
        nodes: inner nodes of a row without the root, where they are padded row by row.
        branches: all roots and other inner nodes of a batch.
        edges: edges of a row; ``classes``, its words; ``steps``, the edges of a word.
    """

    nodes: int = 0
    branches: int = 0
    edges: int = 0
    classes: int = 0
    steps: int = 0

    @classmethod
    def of_words(cls, words: Sequence[Ids]) -> TreeSizes:
        """The lengths for one row with these class words, without padding."""
        if not words:
            return cls(branches=1)
        tree = Trie.of(words)
        return cls(
            len(tree.tokens), 1 + len(tree.tokens), len(tree.labels), len(words), max(map(len, tree.paths))
        )

    @classmethod
    def of(cls, rows: Sequence[Row]) -> TreeSizes:
        """The lengths for a batch of rows, without padding."""
        each = [cls.of_words(row.choices) for row in rows]
        most = cls(*map(max, zip(*each)))
        return most._replace(branches=sum(sizes.branches for sizes in each)) if most.classes else NO_TREE


NO_TREE = TreeSizes()


class Lines(NamedTuple):
    """The positions of the texts before class words: in each row's cells, the inner nodes come after them.

    Attributes:
        width: number of cells in a line.
        lengths: number of cells of each row's text.
        first_node: the cell of each row's first node.
        starts: the index of each row's first cell among the outputs of all rows.
    """

    width: int
    lengths: Int[np.ndarray, " B"]
    first_node: Int[np.ndarray, " B"]
    starts: Int[np.ndarray, " B"]


def class_tree(
    rows: Sequence[Row], texts: Int[np.ndarray, " B"], layout: Layout, lines: Lines, sizes: TreeSizes
) -> ClassTree:
    """The class words of rows, as arrays.

    Args:
        texts: number of tokens of each row's text in ``Batch.tokens``.
    """
    width, lengths, first_node, starts = lines
    count, trees = len(rows), [Trie.of(row.choices) for row in rows]
    columns = np.tile(np.arange(width, dtype=np.int32), (count, 1))
    seen = np.tile(np.arange(width) < lengths[:, None, None], (1, width, 1))
    nodes = np.zeros((count, 0 if layout == "decoder" else sizes.nodes), np.int32)
    parents, tokens = np.zeros((2, count, sizes.edges), np.int32)
    paths = np.full((count, sizes.classes, sizes.steps), sizes.edges, np.int32)
    scale = np.zeros((count, sizes.classes), np.float32)
    roots = (starts + lengths - 1).tolist()
    branches = [*roots]
    for i, (row, tree) in enumerate(zip(rows, trees)):
        own = slice(first_node[i], first_node[i] + len(tree.tokens))
        columns[i, own] = lengths[i] + tree.depths - 1
        seen[i, own, own] = tree.descends
        if nodes.size:
            nodes[i, : len(tree.tokens)] = tree.tokens
        parents[i, : len(tree.parents)] = np.where(tree.parents, len(branches) + tree.parents - 1, i)
        tokens[i, : len(tree.labels)] = tree.labels
        branches.extend(range(starts[i] + own.start, starts[i] + own.stop))
        for k, path in enumerate(tree.paths):
            paths[i, k, : len(path)] = path
            scale[i, k] = 1 / len(path) if row.scoring == "mean" else 1
    padding = [0] * (sizes.branches - len(branches))
    arrays: Any = (
        columns,
        seen,
        texts.astype(np.int32),
        nodes,
        np.array([*branches, *padding], np.int32),
        parents,
        tokens,
        paths,
        scale,
        np.array([row.label for row in rows], np.int32),
    )
    return ClassTree(*arrays)
