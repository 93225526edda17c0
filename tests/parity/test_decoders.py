"""Every decoder family equals transformers, and its prompts' gradients equal peft's."""

from __future__ import annotations

import jax
import pytest
from golden import kept, tiny
from golden.inputs import INDEX, PROMPT, ROWS, prompts

from mpt.loading.hf import load_pretrained
from mpt.training.losses import cross_entropy

ROWS = ROWS["decoder"]


@pytest.fixture(scope="module", params=tiny.DECODERS)
def pair(request, tmp_path_factory):
    """A family, our reading of its checkpoint, and what the references make of it."""
    folder = tiny.save(request.param, tmp_path_factory.mktemp("model"))
    return request.param, load_pretrained(str(folder)).backbone, kept("decoders", request.param)


@pytest.mark.parametrize("length, quantity", [(0, ""), (PROMPT, "prompted ")], ids=["bare", "prompted"])
def test_forward(pair, compare, length, quantity):
    """Of padded texts, without a prompt and after one of each row's own."""
    family, backbone, theirs = pair
    batch = tiny.collate(ROWS, INDEX)
    output = jax.jit(lambda b, p: b(batch, p))(backbone, prompts(2, length))
    compare(family, f"{quantity}logits", output.logits[batch.labelled], theirs[f"{quantity}logits"])
    compare(family, f"{quantity}hidden", output.hidden[0][batch.text], theirs[f"{quantity}hidden"])


def test_prompt_gradient(pair, compare):
    family, backbone, theirs = pair
    batch = tiny.collate(ROWS, [0, 0, 0])

    @jax.jit
    def gradient(backbone, vectors):
        def loss(vectors):
            return cross_entropy(backbone(batch, vectors).logits, batch.targets, batch.labelled).mean

        return jax.grad(loss)(vectors)

    compare(family, "prompt gradient", gradient(backbone, prompts(1))[0], theirs["prompt gradient"])
