"""A prompt that enters in the middle: the texts run alone below it, as layer by layer, row by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import tiny

from mpt.errors import UserError
from mpt.inference.generate import generate
from mpt.loading.hf import load_pretrained
from mpt.models.attention import KV, attend, visible
from mpt.models.decoder_layer import Given, Mixing, block, norm
from mpt.models.encoder_decoder.t5_layers import buckets, position_bias, self_attention
from mpt.models.layers import feed_forward, rms_norm, values
from mpt.models.rope import Angles
from mpt.models.stack.delta_rule import read_rows
from mpt.models.stack.kinds import places
from mpt.prompts.initial import check_layer
from mpt.training.losses import cross_entropy
from mpt.types import Row

P, D, END = 3, 32, 2
ROWS = [Row([5, 6, 7, 8], [9, 4]), Row([10, 11], [12]), Row([3, 4, 5, 6, 7, 8, 13], [4])]
INDEX = [1, 0, 1]
# Rotary positions; windows and two ropes; layers of several kinds; learned positions; an encoder.
FAMILIES = ["llama", "gemma3_text", "gemma4_text", "gpt_oss", "qwen3_5_text", "gpt2", "t5-1.1", "t5gemma2"]


def prompts(count: int = 2) -> jnp.ndarray:
    return jax.random.normal(jax.random.key(0), (count, P, D))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Models by their families."""
    return {
        family: load_pretrained(str(tiny.save(family, tmp_path_factory.mktemp(family)))).backbone
        for family in FAMILIES
    }


def naive_decoder(backbone, vectors, ids: list[int], layer: int):
    """The final states of one row's text: its layers one after another, the prompt put in front at one."""
    spec, x, lent = backbone.spec, backbone.embed(jnp.asarray(ids)), {}
    own, own_of_vectors = backbone.layer_inputs(x, jnp.asarray(ids)), backbone.layer_inputs(vectors, None)
    at = len(vectors) + jnp.arange(len(ids))
    if spec.positions:
        x = x + backbone.ends["position_table"][...][at]
    for i, (kind, place) in enumerate(places(spec.layer_kinds)):
        part, every = spec.stacks[kind], values(backbone.stacks[kind]) | spec.stacks[kind].layer_constants()
        if i == layer:
            front = jnp.arange(len(vectors))
            if spec.positions and layer == 0:
                vectors = vectors + backbone.ends["position_table"][...][front]
            x, at = jnp.concatenate([vectors, x]), jnp.concatenate([front, at])
            own = None if own is None else jnp.concatenate([own_of_vectors, own])
        rope = part.ropes[place] if part.ropes else None
        angles = rope and Angles.at(
            at, jnp.asarray(rope.frequencies(part.head_dim), jnp.float32), rope.amplitude
        )
        weights = {name: w[place] for name, w in every.items()}

        def attention(part, w, past, q, kv, at=at):
            mask = visible(at[None], at[None], w["window"])
            return attend(q[None], KV(*(each[None] for each in kv)), mask, *part.scoring(w))[0], None

        def delta(part, w, past, inputs):
            return read_rows(w, part.activation, jax.tree.map(lambda each: each[None], inputs))[0][0], None

        given = Given(kv=lent.get(part.shares), own=None if own is None else own[:, i])
        x, _, lent[kind] = block(part, weights, x, angles, Mixing(attention, delta), given)
    return norm(spec, values(backbone.ends), "final_norm", x)[len(vectors) :]


def naive_encoder(backbone, vectors, ids: list[int], layer: int):
    """The same of an encoder, which is bidirectional."""
    spec, x, every = backbone.spec, backbone.embed(jnp.asarray(ids)), values(backbone.encoder)
    for i in range(spec.layers):
        x = jnp.concatenate([vectors, x]) if i == layer else x
        at = jnp.arange(len(x))[None]
        bucket = buckets(at, at, spec.buckets, spec.max_distance, both_ways=True)
        bias = position_bias(backbone.ends["encoder_bias"][...], bucket)[0]

        def attention(q, kv, bias=bias):
            scores = jnp.einsum("tnh,snh->nts", q, kv.k) + bias
            return jnp.einsum("nts,snh->tnh", jax.nn.softmax(scores), kv.v)

        w = {name: part[i] for name, part in every.items()}
        x, _ = self_attention(spec, w, x, attention)
        x = x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation)
    return rms_norm(x, backbone.ends["encoder_norm"][...], spec.norm_eps)[len(vectors) :]


def naive_gemma_encoder(backbone, vectors, ids: list[int], layer: int):
    """The same of an encoder of Gemma's layers; the text has its later positions from the first layer on."""
    spec, x, every = backbone.spec.encoder, backbone.embed(jnp.asarray(ids)), values(backbone.encoder)
    at, constants = len(vectors) + jnp.arange(len(ids)), spec.layer_constants()
    for i in range(spec.layers):
        if i == layer:
            x, at = jnp.concatenate([vectors, x]), jnp.concatenate([jnp.arange(len(vectors)), at])
        frequencies = jnp.asarray(spec.ropes[i].frequencies(spec.head_dim), jnp.float32)
        behind = at[:, None] - at[None]
        near = (behind < spec.windows[i]) & (-behind <= spec.ahead[i])

        def attention(part, w, past, q, kv, near=near):
            k, v = (jnp.repeat(each, part.heads // part.kv_heads, axis=1) for each in kv)
            scores = part.attention_scale * jnp.einsum("tnh,snh->nts", q, k)
            shares = jax.nn.softmax(scores, where=near[None])
            return jnp.einsum("nts,snh->tnh", shares, v), None

        w = {name: part[i] for name, part in (every | constants).items()}
        x, _, _ = block(spec, w, x, Angles.at(at, frequencies, spec.ropes[i].amplitude), Mixing(attention))
    scale = 1 + backbone.ends["encoder_norm"][...]
    return rms_norm(x, scale, spec.norm_eps)[len(vectors) :]


@pytest.mark.parametrize(
    "family, layer, count",
    [
        ("llama", 2, 1),
        ("llama", 3, 2),
        ("gemma3_text", 2, 2),
        ("gemma4_text", 2, 2),
        ("gpt_oss", 1, 2),
        ("qwen3_5_text", 1, 2),
        ("gpt2", 2, 1),
    ],
)
def test_a_decoder_runs_its_layers_one_by_one(backbones, family, layer, count):
    decoder, index = backbones[family], [i % count for i in INDEX]
    batch, vectors = tiny.collate(ROWS, index, "decoder"), prompts(count)
    found = jax.jit(lambda b, v: b(batch, v, layer=layer))(decoder, vectors).hidden[0]

    @jax.jit
    def naive(backbone, vectors):
        texts = [[*row.inputs, *row.targets[:-1]] for row in ROWS]
        return [naive_decoder(backbone, vectors[i], ids, layer) for ids, i in zip(texts, index)]

    wanted = jnp.concatenate(naive(decoder, vectors))
    np.testing.assert_allclose(found[batch.text], wanted, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    "family, layer, encoder", [("t5-1.1", 2, naive_encoder), ("t5gemma2", 1, naive_gemma_encoder)]
)
def test_an_encoder_runs_its_layers_one_by_one(backbones, family, layer, encoder):
    backbone = backbones[family]
    batch, vectors = tiny.collate(ROWS, INDEX, backbone.layout), prompts()
    found = jax.jit(lambda b, v: b(batch, v, layer=layer))(backbone, vectors).hidden[0]

    @jax.jit
    def naive(backbone, vectors):
        return [encoder(backbone, vectors[i], row.inputs, layer) for row, i in zip(ROWS, INDEX)]

    wanted = jnp.concatenate(naive(backbone, vectors))
    np.testing.assert_allclose(found[batch.text], wanted, rtol=2e-4, atol=2e-4)


def gradient(backbone, batch, vectors, layer: int):
    def loss(vectors):
        return cross_entropy(backbone(batch, vectors, layer=layer).logits, batch.targets, batch.labelled).mean

    return jax.grad(loss)(vectors)


def test_the_gradient_is_that_of_the_naive_formulation(backbones):
    decoder = backbones["llama"]
    batch, vectors = tiny.collate(ROWS, INDEX, "decoder"), prompts()

    def naive(vectors, decoder):
        losses = []
        for row, which in zip(ROWS, INDEX):
            states = naive_decoder(decoder, vectors[which], [*row.inputs, *row.targets[:-1]], 2)
            logits = decoder.logits(states[len(row.inputs) - 1 :])
            losses.append(-jax.nn.log_softmax(logits)[jnp.arange(len(row.targets)), jnp.asarray(row.targets)])
        return jnp.mean(jnp.concatenate(losses))

    found = jax.jit(gradient, static_argnums=3)(decoder, batch, vectors, 2)
    wanted = jax.jit(jax.grad(naive))(vectors, decoder)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(jnp.abs(wanted).max()))


@pytest.mark.parametrize("family", ["llama", "t5-1.1"])
def test_known_states_take_the_lower_layers_place(backbones, family):
    """The same gradient, from states that were computed before; the layers below do not run again."""
    backbone = backbones[family]
    batch, vectors = tiny.collate(ROWS, INDEX, backbone.layout), prompts()
    states = jax.jit(lambda b: b.lower(batch, 2, P))(backbone)
    kept = batch._replace(states=states, tokens=jnp.zeros_like(batch.tokens))
    step = jax.jit(gradient, static_argnums=3)
    found, wanted = step(backbone, kept, vectors, 2), step(backbone, batch, vectors, 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["gemma3_text", "gemma4_text", "qwen3_5_text", "gpt2", "t5-1.1"])
def test_generation_with_a_cache_is_the_full_pass(backbones, family):
    """Each greedy token is the likeliest of a full pass over what was written before it."""
    backbone, vectors = backbones[family], prompts()
    layout = backbone.layout
    inputs = [row._replace(targets=[END]) for row in ROWS]
    batch = tiny.collate(inputs, INDEX, layout)
    texts = generate(backbone, batch, vectors, max_new_tokens=4, stop=[], layer=2)
    whole = tiny.collate([row._replace(targets=text) for row, text in zip(ROWS, texts)], INDEX, layout)
    logits = jax.jit(lambda b, v: b(whole, v, layer=2))(backbone, vectors).logits
    assert logits.argmax(-1).tolist() == texts


@pytest.mark.parametrize("family", ["gpt2", "t5-1.1"])
def test_states_of_vectors_are_those_of_a_text_alone(backbones, family):
    """So an instruction is run through the layers below before a prompt starts from it."""
    ids, backbone = jnp.asarray([[5, 6, 7]]), backbones[family]
    batch = tiny.collate([Row([5, 6, 7], [1])], [0], backbone.layout)
    text = jax.jit(lambda b: b.lower(batch, 2, 0))(backbone)[batch.text]
    vectors = jax.jit(lambda b: b.lower_vectors(b.embed(ids), 2))(backbone)
    np.testing.assert_allclose(vectors[0], text, rtol=1e-5, atol=1e-5)


def test_above_a_layer_that_lends_its_keys_no_prompt_may_enter(backbones):
    """The layers above would not see it: of Gemma 4's four layers with keys, the last two lend theirs."""
    check_layer(2, backbones["gemma4_text"])
    with pytest.raises(
        UserError, match="must be below 3, as later layers use the keys and values of earlier"
    ):
        check_layer(3, backbones["gemma4_text"])
