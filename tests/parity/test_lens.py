"""What the head reads out of a prompt's vectors equals what transformers' final norm and head give."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from mpt.insight.tokens import nearest_tokens
from mpt.models.hf import load_pretrained

# Where each family keeps the norm before its head. A scale or a bound behind it changes no order.
NORMS = {
    "llama": lambda model: model.model.norm,
    "gemma2": lambda model: model.model.norm,
    "gpt2": lambda model: model.transformer.ln_f,
    "t5-1.0": lambda model: model.decoder.final_layer_norm,
    "t5-1.1": lambda model: model.decoder.final_layer_norm,
}


@pytest.mark.parametrize("family", NORMS)
def test_read_out(family, tmp_path):
    folder = tiny.save(family, tmp_path)
    backbone, model = load_pretrained(str(folder)).backbone, tiny.reference(family, folder)
    vectors = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    with torch.no_grad():
        logits = model.get_output_embeddings()(NORMS[family](model)(torch.tensor(vectors)))
    found = nearest_tokens(backbone, vectors, 3).read_out
    np.testing.assert_array_equal(found, logits.topk(3).indices.numpy())
