"""What the head reads out of a prompt's vectors equals what transformers' final norm and head give."""

from __future__ import annotations

import numpy as np
import pytest
from golden import kept, tiny
from golden.inputs import prompts

from mpt.insight.tokens import nearest_tokens
from mpt.loading.hf import load_pretrained


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "t5-1.0", "t5-1.1"])
def test_read_out(family, tmp_path):
    backbone = load_pretrained(str(tiny.save(family, tmp_path))).backbone
    found = nearest_tokens(backbone, prompts(1)[0], 3).read_out
    np.testing.assert_array_equal(found, kept("lens", family)["read out"])
