"""SmolLM2's real weights equal transformers' reading of the same file."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import tiny
import torch
import transformers

from mpt.data.batches import Row
from mpt.models.hf import load_pretrained, locate

TEXTS = (
    "The capital of France is Paris, and that of Italy",
    " Prices rose 12.5% in 2023\n\n\tdef f(x): return x**2  # naïve café 日本語 🙂",
    "<|im_start|>user\nWhat's up?<|im_end|>\n<|im_start|>assistant\n",
    "I'll say they've DON'T   know   this 1234567 Ünïcödé\r\n",
    "",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pretrained(users_cache):
    return load_pretrained("smollm2-135m")


@pytest.fixture(scope="module")
def file(users_cache):
    return locate("smollm2-135m")


def test_token_ids(pretrained, file):
    """Of numbers behind several blanks and of signs like ½ there are none here: transformers overlooks
    that the file asks for digits to be cut off first."""
    theirs = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in TEXTS:
        ours = pretrained.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ours == theirs(text, add_special_tokens=False)["input_ids"]


def test_logits(pretrained, file, compare):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    ).eval()
    ids = [pretrained.tokenizer(text)["input_ids"] for text in TEXTS[:2]]
    rows = [Row(row[:1], row[1:]) for row in ids]
    batch = tiny.collate(rows, [0, 0])
    width = pretrained.backbone.embedding.shape[1]
    output = jax.jit(lambda b, p: b(batch, p))(pretrained.backbone, np.zeros((1, 0, width), np.float32))
    for i, row in enumerate(ids):
        with torch.no_grad():
            theirs = model(torch.tensor([row])).logits[0, :-1].numpy()
        ours = np.asarray(output.logits[i, : len(row) - 1])
        assert np.abs(ours - theirs).max() < 1e-3
        compare("SmolLM2-135M", "logits", ours, theirs)
