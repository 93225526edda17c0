"""Prefix tuning equals its formula, row by row; and a prefix made of a text acts as the text does."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import normal, tiny

from mpt.errors import UserError
from mpt.inference.evaluate import choice_probabilities
from mpt.inference.generate import generate_after_prompt
from mpt.loading.hf import load_pretrained
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.losses import task_loss
from mpt.types import Row

J, P, END = 2, 3, 2
# Of several lengths, beyond the windows of the families that have them.
ROWS = [Row([5, 6, 7, 8, 9, 10, 11], [9]), Row([10, 11], [12, 13, 14]), Row([3, 4, 5, 6], [4, 5])]
TASKS = [1, 0, 1]
FAMILIES = ["llama", "mistral", "qwen3", "gemma2", "gemma3_text", "gpt2"]


# All that the backbone makes of a batch after a prompt.
outputs = nnx.jit(lambda model, batch: model(batch))


@pytest.fixture(scope="module")
def backbone(pretrained):
    return pretrained.backbone


@pytest.fixture(scope="module")
def prompt(backbone) -> PrefixPrompt:
    layers, heads, width = backbone.kv_shape
    return PrefixPrompt(*(jnp.asarray(normal(seed, J, layers, P, heads, width)) for seed in (0, 1)))


def naive_logits(backbone, keys, values, ids: list[int], hidden: Sequence[int] = ()) -> jax.Array:
    """A Llama's logits at every token of one row after a prefix [layers, P, K, H], head by head.

    The row does not attend to the positions ``hidden`` of the prefix.
    """
    spec, w = backbone.spec, {name: part[...] for name, part in backbone.layers.items()}
    ends = {name: part[...] for name, part in backbone.ends.items()}
    at = np.arange(len(ids)) + keys.shape[1]
    turn = at[:, None] * spec.ropes[0].frequencies(spec.head_dim)[None]

    def norm(x, scale):
        return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + spec.norm_eps) * scale[None]

    def rotated(x):
        real, imaginary = jnp.split(x, 2, axis=-1)
        cos, sin = (jnp.asarray(part, jnp.float32) for part in (np.cos(turn), np.sin(turn)))
        return jnp.concatenate([real * cos - imaginary * sin, real * sin + imaginary * cos], axis=-1)

    x = ends["embedding"][np.asarray(ids)]
    for i in range(spec.layers):
        h, out = norm(x, w["attention_norm"][i]), jnp.zeros_like(x)
        for n in range(spec.heads):
            group = n * spec.kv_heads // spec.heads
            q = rotated(h @ w["q"][i, :, n])
            k = jnp.concatenate([keys[i, :, group], rotated(h @ w["k"][i, :, group])])
            v = jnp.concatenate([values[i, :, group], h @ w["v"][i, :, group]])
            places = np.arange(len(k))
            seen = (places <= at[:, None]) & ~np.isin(places, hidden)
            scores = jnp.where(seen, q @ k.T / spec.head_dim**0.5, -jnp.inf)
            out += jax.nn.softmax(scores, axis=-1) @ v @ w["out"][i, n]
        x += out
        h = norm(x, w["mlp_norm"][i])
        x += (jax.nn.silu(h @ w["gate"][i]) * (h @ w["up"][i])) @ w["down"][i]
    return norm(x, ends["final_norm"]) @ ends.get("head", ends["embedding"]).T


def naive_targets(backbone, prompt, row: Row, task: int, hidden: Sequence[int] = ()) -> jax.Array:
    """The logits at one row's targets."""
    ids = [*row.inputs, *row.targets[:-1]]
    logits = naive_logits(backbone, prompt.keys[...][task], prompt.values[...][task], ids, hidden)
    return logits[len(row.inputs) - 1 :]


def test_logits_are_the_formulas(backbone, prompt):
    """Of rows of both prefixes in one batch; and of those of one prefix, which take another way."""
    found = outputs(Prompted(backbone, prompt), tiny.collate(ROWS, TASKS)).logits
    ones = PrefixPrompt(prompt.keys[...][1:], prompt.values[...][1:])
    alone = outputs(Prompted(backbone, ones), tiny.collate(ROWS, [0] * len(ROWS))).logits
    for i, (row, task) in enumerate(zip(ROWS, TASKS)):
        expected = naive_targets(backbone, prompt, row, task)
        np.testing.assert_allclose(found[i, : len(row.targets)], expected, rtol=0, atol=2e-5)
        if task == 1:
            np.testing.assert_allclose(alone[i, : len(row.targets)], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("tasks", [TASKS, [0, 0, 0]], ids=["two prefixes", "one prefix"])
def test_gradient_is_the_formulas(backbone, prompt, tasks):
    batch, count = tiny.collate(ROWS, tasks), len(set(tasks))
    parts = PrefixPrompt(prompt.keys[...][:count], prompt.values[...][:count])
    graph, trained = nnx.split(parts)

    def ours(trained):
        return task_loss(Prompted(backbone, nnx.merge(graph, trained)), batch)["task"].pooled.mean

    def naive(trained):
        losses = []
        for row, task in zip(ROWS, tasks):
            logits = naive_targets(backbone, nnx.merge(graph, trained), row, task)
            log_p = jax.nn.log_softmax(logits)
            losses += [-log_p[t, token] for t, token in enumerate(row.targets)]
        return sum(losses) / len(losses)

    found, expected = (jax.jit(jax.grad(loss))(trained) for loss in (ours, naive))
    for path, leaf in nnx.to_flat_state(expected):
        own = dict(nnx.to_flat_state(found))[path]
        np.testing.assert_allclose(own[...], leaf[...], rtol=0, atol=2e-5 * np.abs(leaf[...]).max())


def test_texts_are_the_greedy_ones_of_the_formula(backbone, prompt):
    """Written at once for rows of different lengths and prefixes; the formula reads all again each time."""
    batch = tiny.collate([row._replace(targets=[0]) for row in ROWS], TASKS)
    texts = generate_after_prompt(Prompted(backbone, prompt), batch, max_new_tokens=4, stop=[])
    for row, task, text in zip(ROWS, TASKS, texts):
        ids = list(row.inputs)
        for token in text:
            logits = naive_logits(backbone, prompt.keys[...][task], prompt.values[...][task], ids)[-1]
            assert token == int(jnp.argmax(logits))
            ids.append(token)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_made_of_a_text_acts_as_the_text(family, tmp_path):
    """Logits, texts and the probabilities of choices, with windows, caps and learned positions too."""
    backbone = load_pretrained(str(tiny.save(family, tmp_path))).backbone
    ids = jnp.array([[20, 21, 22, 23], [30, 31, 32, 33]])
    prefix = PrefixPrompt.from_tokens(backbone, ids)
    models = [Prompted(backbone, prompt) for prompt in (prefix, SoftPrompt(backbone.embed(ids)))]
    batch = tiny.collate(ROWS, TASKS)
    found, expected = (outputs(model, batch) for model in models)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-5)
    bare = tiny.collate([row._replace(targets=[0]) for row in ROWS], TASKS)
    texts, wanted = (generate_after_prompt(model, bare, max_new_tokens=6, stop=[END]) for model in models)
    assert texts == wanted


def test_choices_are_scored_after_a_prefix(backbone):
    ids, rows = jnp.array([[20, 21, 22, 23]]), [row._replace(choices=([7], [8, 9])) for row in ROWS]
    prompts = PrefixPrompt.from_tokens(backbone, ids), SoftPrompt(backbone.embed(ids))
    found, expected = (choice_probabilities(Prompted(backbone, prompt), rows) for prompt in prompts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_vectors_may_stand_after_a_prefix(backbone):
    """Keys and values of a text's first half in front of the other half's vectors: the whole text."""
    vectors = backbone.embed(jnp.array([[20, 21, 22, 23, 24], [30, 31, 32, 33, 34]]))
    kv, batch = backbone.prompt_kv(vectors[:, :2]), tiny.collate(ROWS, TASKS)
    read = nnx.jit(lambda backbone, vectors, kv: backbone(batch, vectors, None, kv).logits)
    found, expected = read(backbone, vectors[:, 2:], kv), read(backbone, vectors, None)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_an_encoder_decoders_prefix_is_its_decoders(tmp_path):
    """Written token by token as it is scored, and only the decoder's states depend on it."""
    backbone = load_pretrained(str(tiny.save("t5-1.1", tmp_path))).backbone
    rows = [Row([5, 9, 11, 4, END], [8, 12, 6, 7]), Row([33, END], [9, 3, 5, 4])]
    prompt = PrefixPrompt.random(backbone, J, P, jax.random.key(0), scale=1.0)
    model, layout = Prompted(backbone, prompt), backbone.layout
    written = generate_after_prompt(model, tiny.collate(rows, [1, 0], layout), max_new_tokens=4, stop=[])
    scored = [row._replace(targets=text) for row, text in zip(rows, written)]
    output = outputs(model, tiny.collate(scored, [1, 0], layout))
    assert np.argmax(output.logits, axis=-1).tolist() == written
    none = SoftPrompt(jnp.zeros((J, 0, tiny.WIDTH)))
    bare = outputs(Prompted(backbone, none), tiny.collate(scored, [1, 0], layout))
    np.testing.assert_array_equal(output.hidden[0], bare.hidden[0])
    assert np.abs(output.logits - bare.logits).max() > 0.1
    with pytest.raises(UserError, match="a prefix starts from text in decoder-only models"):
        PrefixPrompt.from_tokens(backbone, jnp.array([[20, 21]]))


def test_a_prefix_of_no_length_changes_nothing(backbone):
    layers, heads, width = backbone.kv_shape
    empty, batch = jnp.zeros((1, layers, 0, heads, width)), tiny.collate(ROWS, [0, 0, 0])
    prompts = PrefixPrompt(empty, empty), SoftPrompt(jnp.zeros((1, 0, tiny.WIDTH)))
    found, expected = (outputs(Prompted(backbone, prompt), batch).logits for prompt in prompts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_prefix_is_trained_and_has_a_learning_rate(backbone):
    prompt = PrefixPrompt.random(backbone, J, P, jax.random.key(0))
    trained = dict(nnx.to_flat_state(nnx.state(prompt, PromptParam)))
    assert {path[-1]: leaf.get_metadata()["group"] for path, leaf in trained.items()} == {
        "keys": "weights",
        "values": "weights",
    }
    assert prompt.extent(8) == (J, P)
    assert np.std(prompt.keys[...]) == pytest.approx(0.02, rel=0.2)
    assert not np.array_equal(prompt.keys[...], prompt.values[...])


@pytest.mark.parametrize("family", ["qwen3_5_text", "gemma4_text"])
def test_layers_of_several_kinds_have_no_prefix(family, tmp_path):
    """They have no keys and values, or of several shapes; a folder of PEFT's would not fit, either."""
    backbone = load_pretrained(str(tiny.save(family, tmp_path))).backbone
    with pytest.raises(UserError, match="prefix tuning: this model's layers are of several kinds"):
        PrefixPrompt.random(backbone, J, P, jax.random.key(0))
    with pytest.raises(UserError, match="prefix tuning: this model's layers are of several kinds"):
        PrefixPrompt.from_vectors(backbone, jnp.zeros((J, P, tiny.WIDTH)))
