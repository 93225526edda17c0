"""Class words become trees of tokens, and trees become arrays beside a batch's texts."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.batches import Sizes, collate, collate_microbatches
from mpt.data.class_tree import TreeSizes, Trie
from mpt.types import Row

WORD = st.lists(st.integers(2, 5), min_size=1, max_size=4)
WORDS = ([20], [21, 22, 23], [21, 22], [21, 24, 25])
ROWS = [
    Row([3, 4, 5], [21, 22], WORDS, 2),
    Row([6], [30, 31, 32]),
    Row([7, 8], [20], ([20], [21]), 0, scoring="mean"),
]


def scored(rows, layout="decoder"):
    return collate(rows, [0] * len(rows), layout, Sizes.of(rows, layout, classes=True))


@given(st.lists(WORD, min_size=1, max_size=8))
def test_path_of_a_word_spells_it_from_the_root(words):
    tree = Trie.of(words)
    for word, path in zip(words, tree.paths):
        assert tree.labels[list(path)].tolist() == word
        assert tree.parents[path[0]] == 0
        for parent, edge in pairwise(path):
            node = tree.parents[edge]
            assert tree.tokens[node - 1] == tree.labels[parent]
            assert tree.descends[node - 1].sum() == tree.depths[node - 1]
    beginnings = {tuple(word[:length]) for word in words for length in range(1, len(word))}
    assert len(tree.tokens) == len(beginnings)


def test_nodes_stand_after_the_text_of_their_row():
    batch = scored(ROWS)
    of_row = [batch.tokens[batch.grid[i][batch.grid[i] < batch.tokens.size]].tolist() for i in range(3)]
    assert of_row == [[3, 4, 5, 21, 22, 24], [6, 30, 31], [7, 8]]
    assert batch.classes.columns[0, :6].tolist() == [0, 1, 2, 3, 4, 4]
    assert batch.classes.seen[0, :6, :6].astype(int).tolist() == [
        *[[1, 1, 1, 0, 0, 0]] * 3,
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0, 1],
    ]
    texts = np.asarray(batch.text)
    assert batch.tokens[texts].tolist() == [3, 4, 5, 6, 30, 31, 7, 8]


def test_scored_row_has_no_target_of_its_own():
    batch = scored(ROWS)
    assert batch.labelled.sum(axis=1).tolist() == [0, 3, 0]
    assert batch.positions[:, 0].tolist() == [2, 6, 10]  # of each text's last token
    assert batch.classes.real.sum(axis=1).tolist() == [4, 0, 2]
    assert batch.classes.scale[2, :2].tolist() == [1, 1]
    alone = scored([ROWS[0], ROWS[2]])
    assert alone.targets.shape == (2, 0)


def test_single_tokens_need_no_nodes():
    rows = [Row([3, 4, 5], [20], ([20], [21], [22]), 0)] * 2
    assert TreeSizes.of(rows) == TreeSizes(nodes=0, branches=2, edges=3, classes=3, steps=1)
    batch = scored(rows)
    assert batch.tokens.shape == collate(rows, [0, 0]).tokens.shape
    assert batch.classes.branches.tolist() == batch.positions[:, 0].tolist()


def test_batches_without_class_words_have_no_tree():
    assert scored([ROWS[1]]).classes is None
    assert collate(ROWS, [0] * 3).classes is None


def test_microbatches_have_trees_of_one_size():
    rows = [ROWS[1], ROWS[0], ROWS[1], ROWS[2]]
    batch = collate_microbatches(rows, [0] * 4, 2, classes=True)
    assert (batch.classes.scale > 0).sum(axis=(1, 2)).tolist() == [0, 6]
