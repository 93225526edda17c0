"""Tokens that all texts have in common are read once, in front of the prompts: the numbers are the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import tiny
from runs import random

from mpt.errors import UserError
from mpt.inference.evaluate import choice_probabilities
from mpt.inference.generate import generate
from mpt.loading.hf import load_pretrained
from mpt.models.attention import KV
from mpt.models.cost import batch_cost
from mpt.prompts import SoftPrompt
from mpt.prompts.pooled import bare_states
from mpt.prompts.prompted import Prompted
from mpt.types import Row

OPENING = (5, 9, 6)
ROWS = [Row([7, 8, 11, 10], [12, 13]), Row([20, 21], [22, 14])]
WHOLE = [row._replace(inputs=[*OPENING, *row.inputs]) for row in ROWS]
# Plain attention, windows and scaled embeddings, learned positions, a delta rule, inputs of each layer.
OTHERS = ["gemma3_text", "gpt2", "qwen3_5_text", "gemma4_text"]
FAMILIES = ["llama", *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)]
CLOSE = {"rtol": 2e-4, "atol": 2e-4}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tiny.save(request.param, tmp_path_factory.mktemp(request.param))
    return request.param, load_pretrained(str(folder)).backbone


@nnx.jit
def logits_of(backbone, batch, prompts):
    return backbone(batch, prompts).logits


@nnx.jit
def bare(backbone, batch):
    return bare_states(batch, backbone)


def test_without_vectors_texts_read_as_they_do_in_one_piece(family):
    _, backbone = family
    nothing = jnp.zeros((1, 0, tiny.WIDTH))
    found = logits_of(backbone.after(OPENING), tiny.collate(ROWS, [0, 0]), nothing)
    wanted = logits_of(backbone, tiny.collate(WHOLE, [0, 0]), nothing)
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_states_without_the_prompt_have_the_opening_in_front(family):
    _, backbone = family
    alone, whole = ([row._replace(targets=[2]) for row in rows] for rows in (ROWS, WHOLE))
    found = bare(backbone.after(OPENING), tiny.collate(alone, [0, 0]))
    wanted = bare(backbone, tiny.collate(whole, [0, 0]))
    # The third is the last token's; the others are means, of which the opening is no part.
    np.testing.assert_allclose(found[:, 2], wanted[:, 2], **CLOSE)
    np.testing.assert_allclose(inner(backbone.after(OPENING), alone[0]), inner(backbone, whole[0]), **CLOSE)


def inner(backbone, row: Row):
    """The states of a row's last tokens two thirds up the layers."""
    batch, middle = tiny.collate([row], [0]), 2 * backbone.depth // 3
    states = jax.jit(lambda batch: backbone.lower(batch, middle, 0))(batch)
    return states[len(row.inputs) - 4 : len(row.inputs)]


def test_vectors_stand_between_the_opening_and_the_text(family):
    """Against the same numbers in front of everything: embedded tokens, then the vectors."""
    name, backbone = family
    if name == "gemma4_text":
        pytest.skip("its layers have inputs of their own of tokens, and vectors have no tokens")
    vectors = random(3, 2, 4, tiny.WIDTH)
    front = jnp.broadcast_to(backbone.embed(jnp.array(OPENING)), (2, len(OPENING), tiny.WIDTH))
    by_hand = jnp.concatenate([front, vectors], axis=1)
    placed, batch = backbone.after(OPENING), tiny.collate(ROWS, [1, 0])
    np.testing.assert_allclose(
        logits_of(placed, batch, vectors), logits_of(backbone, batch, by_hand), **CLOSE
    )

    found = gradient(placed, batch, vectors)
    np.testing.assert_allclose(found, gradient(backbone, batch, by_hand)[:, len(OPENING) :], **CLOSE)

    words = ([20, 21], [22], [23, 24, 25])
    asked = [row._replace(targets=words[0], choices=words, label=0) for row in ROWS]
    scores = [
        choice_probabilities(Prompted(model, SoftPrompt(prompts)), asked, [1, 0])
        for model, prompts in ((placed, vectors), (backbone, by_hand))
    ]
    np.testing.assert_allclose(*scores, **CLOSE)


@pytest.mark.full
def test_texts_are_written_behind_it(pretrained):
    backbone, vectors = pretrained.backbone, random(3, 2, 4, 32)
    front = jnp.broadcast_to(backbone.embed(jnp.array(OPENING)), (2, len(OPENING), 32))
    bare = tiny.collate([row._replace(targets=[0]) for row in ROWS], [1, 0])
    found, wanted = (
        generate(model, bare, prompts, max_new_tokens=6, stop=[2])
        for model, prompts in (
            (backbone.after(OPENING), vectors),
            (backbone, jnp.concatenate([front, vectors], axis=1)),
        )
    )
    assert found == wanted and any(found)


def gradient(backbone, batch, prompts):
    """That of a sum of the targets' log-probabilities."""
    return jax.jit(
        jax.grad(lambda prompts: jnp.sum(jax.nn.log_softmax(backbone(batch, prompts).logits)[..., 5]))
    )(prompts)


def test_it_shares_the_weights_and_leaves_the_model_as_it_was(pretrained):
    placed = pretrained.backbone.after(OPENING)
    assert (placed.opening, pretrained.backbone.opening) == (OPENING, ())
    assert placed.embedding[...] is pretrained.backbone.embedding[...]
    cost = [batch_cost(each, 1, 4, [10], [1]).forward for each in (pretrained.backbone, placed)]
    assert cost[0] < cost[1] == batch_cost(pretrained.backbone, 1, 4 + len(OPENING), [10], [1]).forward


def test_what_cannot_stand_behind_it_is_refused(pretrained):
    placed, batch = pretrained.backbone.after(OPENING), tiny.collate(ROWS, [0, 0])
    layers, heads, width = placed.kv_shape
    kv = KV(*(random(seed, layers, 1, 3, heads, width) for seed in (0, 1)))
    with pytest.raises(UserError, match="a prompt in every layer stands in front of everything"):
        placed(batch, jnp.zeros((1, 0, 32)), prefix_kv=kv)
    with pytest.raises(UserError, match="a later layer stands in front of everything"):
        placed(batch, random(0, 1, 4, 32), layer=1)
