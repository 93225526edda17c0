"""Prompts start as rows of the embedding table."""

import numpy as np
import pytest

from mpt.prompts import from_embeddings, text_rows, vocabulary_rows


@pytest.mark.parametrize("vocab", [50, 100_000])
def test_sampled_rows_are_distinct_and_common(vocab):
    rows = vocabulary_rows(vocab, 40, seed=0)
    assert len(set(rows.tolist())) == 40
    assert rows.max() < min(vocab, 5000)
    assert not np.array_equal(rows, vocabulary_rows(vocab, 40, seed=1))


@pytest.mark.parametrize(("length", "rows"), [(2, [7, 8]), (3, [7, 8, 9]), (5, [7, 8, 9, 7, 8])])
def test_text_is_cut_or_repeated(length, rows):
    assert text_rows([7, 8, 9], length).tolist() == rows


def test_prompt_starts_as_those_tokens_exactly(pretrained):
    ids = np.array([[3, 4, 5]])
    prompt = from_embeddings(pretrained.backbone.embedding[...], ids)
    np.testing.assert_array_equal(prompt, np.asarray(pretrained.backbone.embedding[...])[ids])
