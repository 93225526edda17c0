"""How examples are laid out for either kind of backbone."""

from __future__ import annotations

import numpy as np
from golden import tiny

from mpt.data.batches import collate
from mpt.data.task import Example
from mpt.data.tokenise import encode
from mpt.types import Row


def test_an_encoder_decoder_reads_only_the_inputs():
    rows = [Row([5, 6, 7, 2], [8, 9, 2]), Row([5, 2], [8, 2])]
    batch = collate(rows, [0, 1], "encoder-decoder")
    np.testing.assert_array_equal(batch.tokens[:7], [5, 6, 7, 2, 5, 2, 0])
    np.testing.assert_array_equal(batch.filled.sum(axis=1), [4, 2])
    np.testing.assert_array_equal(batch.targets, [[8, 9, 2], [8, 2, 0]])
    np.testing.assert_array_equal(batch.positions, [[0, 1, 2], [0, 1, 0]])


def test_its_inputs_and_targets_end_with_the_end_token():
    example = Example("{text}", {"text": "w5 w6"}, "w8")
    assert encode([example], tiny.tokenizer(), 8, "encoder-decoder") == [Row([5, 6, 2], [8, 2])]
    assert encode([example], tiny.tokenizer(), 2, "encoder-decoder") == [Row([5, 2], [8, 2], lost=1)]
    assert encode([example], tiny.tokenizer(), 8) == [Row([5, 6], [8, 2])]
