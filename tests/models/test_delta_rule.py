"""The gated delta rule in chunks is the rule taken position by position, row by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import normal, tiny

from mpt.inference.generate import generate
from mpt.loading.hf import load_pretrained
from mpt.models.stack import delta_rule
from mpt.models.stack.delta_rule import QKV, Inputs, read_rows
from mpt.types import Row

ROWS, LENGTH, KEYS, HEADS, WIDTH, TAPS = 3, 11, 2, 4, 6, 3
LENGTHS = [11, 2, 7]
WEIGHTS = {
    f"conv_{name}": jnp.asarray(normal(seed, heads, WIDTH, TAPS, scale=0.5))
    for seed, (name, heads) in enumerate([("q", KEYS), ("k", KEYS), ("v", HEADS)])
}


def inputs(rows: int = ROWS, length: int = LENGTH) -> Inputs:
    q, k, v = (jnp.asarray(normal(3 + i, rows, length, n, WIDTH)) for i, n in enumerate((KEYS, KEYS, HEADS)))
    decay, beta = (jnp.asarray(normal(6 + i, rows, length, HEADS)) for i in range(2))
    return Inputs(QKV(q, k, v), -jax.nn.softplus(decay), jax.nn.sigmoid(beta))


def cut(given: Inputs, row: int, places: slice) -> Inputs:
    return jax.tree.map(lambda part: part[row : row + 1, places], given)


def one_by_one(given: Inputs, row: int) -> tuple[np.ndarray, np.ndarray]:
    """The outputs and the last memory of one row, in the words of the paper."""
    q, k, v = (np.asarray(part[row], np.float64) for part in given.qkv)
    parts = []
    for name, x in zip("qkv", (q, k, v)):
        kernel, padded = (
            np.asarray(WEIGHTS[f"conv_{name}"], np.float64),
            np.pad(x, [(TAPS - 1, 0)] + [(0, 0)] * 2),
        )
        y = sum(padded[i : i + len(x)] * kernel[..., i] for i in range(TAPS))
        parts.append(y / (1 + np.exp(-y)))
    q, k = (part / np.sqrt((part**2).sum(-1, keepdims=True) + 1e-6) for part in parts[:2])
    q, k = (part.repeat(HEADS // KEYS, axis=1) for part in (q / np.sqrt(WIDTH), k))
    memory, outputs = np.zeros((HEADS, WIDTH, WIDTH)), []
    for t in range(len(q)):
        memory = np.exp(np.asarray(given.decay[row, t], np.float64))[:, None, None] * memory
        known = np.einsum("nh,nhe->ne", k[t], memory)
        new = np.asarray(given.beta[row, t], np.float64)[:, None] * (parts[2][t] - known)
        memory = memory + np.einsum("nh,ne->nhe", k[t], new)
        outputs.append(np.einsum("nh,nhe->ne", q[t], memory))
    return np.array(outputs), memory


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_chunks_are_the_rule_position_by_position(chunk, monkeypatch):
    monkeypatch.setattr(delta_rule, "CHUNK", chunk)
    out, state = jax.jit(lambda given: read_rows(WEIGHTS, "silu", given))(inputs())
    for row in range(ROWS):
        wanted, memory = one_by_one(inputs(), row)
        np.testing.assert_allclose(out[row], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.memory[row], memory, rtol=1e-4, atol=1e-5)


def test_the_same_key_again_and_again_is_solved_exactly():
    """Powers of such a system have entries of 10 to the 18th, which would cancel."""
    given = inputs(1, 64)
    same = jax.tree.map(lambda part: jnp.broadcast_to(part[:, -1:], part.shape), given)
    same = same._replace(decay=jnp.zeros_like(same.decay), beta=jnp.full_like(same.beta, 0.999))
    out, _ = read_rows(WEIGHTS, "silu", same)
    np.testing.assert_allclose(out[0], one_by_one(same, 0)[0], rtol=1e-4, atol=1e-5)


def test_a_row_goes_on_from_the_state_after_its_beginning():
    whole, state = read_rows(WEIGHTS, "silu", inputs())
    _, before = read_rows(WEIGHTS, "silu", jax.tree.map(lambda part: part[:, :1], inputs()))  # less than TAPS
    out, after = read_rows(WEIGHTS, "silu", jax.tree.map(lambda part: part[:, 1:], inputs()), before)
    np.testing.assert_allclose(out, whole[:, 1:], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(after), jax.tree.leaves(state)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_padding_after_a_row_changes_neither_memory_nor_tail():
    real = jnp.arange(LENGTH)[None] < jnp.asarray(LENGTHS)[:, None]
    padded = jax.tree.map(
        lambda part: jnp.where(real.reshape(*real.shape, *[1] * (part.ndim - 2)), part, 0), inputs()
    )
    out, state = read_rows(WEIGHTS, "silu", padded, None, jnp.asarray(LENGTHS))
    for row, length in enumerate(LENGTHS):
        alone, own = read_rows(WEIGHTS, "silu", cut(inputs(), row, slice(length)))
        np.testing.assert_allclose(out[row, :length], alone[0], rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(own)):
            np.testing.assert_allclose(ours[row], theirs[0], rtol=1e-4, atol=1e-5)


def test_rows_of_several_lengths_are_written_as_each_alone(tmp_path, monkeypatch):
    """After a prompt that is read once for all; a text may be shorter than the convolution."""
    backbone = load_pretrained(str(tiny.save("qwen3_5_text", tmp_path))).backbone
    monkeypatch.setattr(delta_rule, "CHUNK", 3)
    texts = [[5, 9, 11, 4, 7, 7, 30, 21], [33], [6, 14, 25]]
    vectors = jnp.asarray(normal(0, 1, 4, tiny.WIDTH))

    def written(rows):
        batch = tiny.collate([Row(ids, [0]) for ids in rows], [0] * len(rows))
        return generate(backbone, batch, vectors, max_new_tokens=5, stop=[])

    assert written(texts) == [written([ids])[0] for ids in texts]
