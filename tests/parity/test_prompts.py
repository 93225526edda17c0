"""Both backbones read prompts of rows, and moved embeddings, as the naive formulation has them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import tiny

from mpt.inference.generate import generate
from mpt.loading.hf import load_pretrained
from mpt.methods.attempt import AttentionalPrompt
from mpt.methods.dept import DecomposedPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

P, D, END = 4, 32, 2
ROWS = [Row([5, 6, 7, 8, END], [9]), Row([10, 11, END], [12]), Row([3, 4, 5, 6, 7, 8, END], [4])]
TASKS = [1, 0, 1]


def random(seed: int, *shape: int):
    return jax.random.normal(jax.random.key(seed), shape)


MAKERS = {
    "dept": lambda: DecomposedPrompt(random(0, 2, P, D), random(1, 2, 6, 3), random(2, 2, 3, D)),
    "attempt": lambda: AttentionalPrompt.start(random(0, 3, P, D), random(1, 2, P, D), 5, jax.random.key(2)),
}


@pytest.fixture(scope="module", params=["llama", pytest.param("t5-1.1", marks=pytest.mark.full)])
def kind_of_backbone(request, tmp_path_factory):
    return load_pretrained(str(tiny.save(request.param, tmp_path_factory.mktemp("model")))).backbone


def naive(backbone, vectors, shift, ids):
    """A row's inputs as a prompt: its own vectors, then its embeddings as they are moved."""
    return jnp.concatenate([vectors, backbone.embed(jnp.asarray(ids)) + shift])[None]


@pytest.mark.parametrize("name", MAKERS)
def test_backbone_reads_moved_embeddings_and_rows_prompts(kind_of_backbone, name):
    """Each row by itself, all but its last input as a prompt, gives the same logits and the same text."""
    backbone, prompt = kind_of_backbone, MAKERS[name]()
    batch = tiny.collate(ROWS, TASKS, backbone.layout)
    prefix = prompt.prefix(batch, backbone)
    shift = jnp.zeros((batch.tokens.size, D)) if prefix.shift is None else prefix.shift
    read = batch._replace(prompt_index=prefix.prompt_index)
    together = Prompted(backbone, prompt)(batch).logits
    texts = generate(backbone, read, prefix.vectors, max_new_tokens=4, stop=[END], shift=prefix.shift)
    first = 0
    for i, row in enumerate(ROWS):
        count = len(row.inputs)
        vectors = prefix.vectors[prefix.prompt_index[i]]
        own = naive(backbone, vectors, shift[first : first + count - 1], row.inputs[:-1])
        alone = tiny.collate([row._replace(inputs=[END])], [0], backbone.layout)
        last = jnp.zeros((alone.tokens.size, D)).at[0].set(shift[first + count - 1])
        np.testing.assert_allclose(backbone(alone, own, last).logits[0], together[i], rtol=2e-3, atol=2e-4)
        assert generate(backbone, alone, own, max_new_tokens=4, stop=[END], shift=last) == [texts[i]]
        first += count
