"""Every family of encoder-decoders equals transformers, and its prompts' gradients equal peft's."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from golden import kept, tiny
from golden.inputs import INDEX, PROMPT, ROWS, prompts

from mpt.errors import UserError
from mpt.loading.hf import load_pretrained
from mpt.training.losses import cross_entropy

ROWS = ROWS["encoder-decoder"]


@pytest.fixture(scope="module", params=tiny.ENCODER_DECODERS)
def pair(request, tmp_path_factory):
    """A family, its checkpoint, and what the references make of it."""
    folder = tiny.save(request.param, tmp_path_factory.mktemp("model"))
    return request.param, str(folder), kept("encoder_decoders", request.param)


@pytest.mark.parametrize("length, quantity", [(0, ""), (PROMPT, "prompted ")], ids=["bare", "prompted"])
def test_forward(pair, compare, length, quantity):
    family, folder, theirs = pair
    backbone = load_pretrained(folder).backbone
    batch = tiny.collate(ROWS, INDEX, backbone.layout)
    output = jax.jit(lambda b, p: b(batch, p))(backbone, prompts(2, length))
    encoded, decoded = output.hidden
    compare(family, f"{quantity}logits", output.logits[batch.labelled], theirs[f"{quantity}logits"])
    compare(family, f"{quantity}hidden", encoded[batch.text], theirs[f"{quantity}encoded"])
    compare(family, f"{quantity}hidden", decoded[batch.labelled], theirs[f"{quantity}decoded"])


def gradient(backbone, vectors: np.ndarray) -> jax.Array:
    batch = tiny.collate(ROWS, [0, 0, 0], backbone.layout)

    @jax.jit
    def gradient(backbone, vectors):
        def loss(vectors):
            return cross_entropy(backbone(batch, vectors).logits, batch.targets, batch.labelled).mean

        return jax.grad(loss)(vectors)

    return gradient(backbone, vectors)[0]


def test_prompt_gradient(pair, compare):
    family, folder, theirs = pair
    ours = gradient(load_pretrained(folder).backbone, prompts(1))
    compare(family, "prompt gradient", ours, theirs["prompt gradient"])


def test_prompts_on_both_sides(pair, compare):
    family, folder, theirs = pair
    if family in tiny.ONE_SIDED:
        with pytest.raises(UserError, match=r"decoder's vectors have 24 numbers and the encoder's 32"):
            load_pretrained(folder, decoder_prompt=PROMPT)
        return
    backbone = load_pretrained(folder, decoder_prompt=PROMPT).backbone
    ours = gradient(backbone, prompts(1, 2 * PROMPT))
    compare(family, "both sides' grad.", ours, theirs["both sides' grad."])
