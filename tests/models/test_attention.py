"""Attention equals the plain formula, fused or merged from parts; windows and empty slots are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mpt.models.attention import (
    KV,
    NOWHERE,
    attend,
    attend_partially,
    attend_within,
    gather,
    merge,
    visible,
)


def plain_attention(q, kv, mask, scale, bias=0.0):
    """softmax(scale · q kᵀ + bias) v, head by head."""
    k, v = (jnp.repeat(part, q.shape[2] // part.shape[2], axis=2) for part in kv)
    scores = scale * jnp.einsum("btnh,bsnh->bnts", q, k) + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


@pytest.fixture
def heads():
    keys = jax.random.split(jax.random.key(0), 4)
    q = jax.random.normal(keys[0], (2, 5, 4, 8))
    kv = KV(*(jax.random.normal(key, (2, 7, 2, 8)) for key in keys[1:3]))
    return q, kv, jax.random.normal(keys[3], (1, 4, 5, 7))


@pytest.mark.parametrize("window", [NOWHERE, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_fused_equals_plain(heads, window, biased):
    q, kv, bias = heads
    mask = visible(2 + jnp.arange(5)[None], jnp.arange(7)[None], window)
    fused = attend(q, kv, mask, scale=0.3, bias=bias if biased else None)
    np.testing.assert_allclose(fused, plain_attention(q, kv, mask, 0.3, bias if biased else 0), atol=1e-6)


def with_sinks(q, kv, mask, sinks):
    """Plain attention with one more key: its score is the sink, its value zero."""
    k, v = (jnp.repeat(part, q.shape[2] // part.shape[2], axis=2) for part in kv)
    scores = jnp.where(mask, 0.3 * jnp.einsum("btnh,bsnh->bnts", q, k), -jnp.inf)
    nothing = jnp.broadcast_to(sinks[None, :, None, None], (*scores.shape[:3], 1))
    weights = jax.nn.softmax(jnp.concatenate([scores, nothing], axis=-1), axis=-1)[..., :-1]
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


@pytest.mark.parametrize("parts", [(slice(7),), (slice(3), slice(3, 7))], ids=["whole", "parts"])
def test_sinks_take_their_share(heads, parts):
    """Values and gradients, that of the sinks too, above and below the scores, and where no key is seen."""
    q, kv, _ = heads
    sinks = jnp.array([-4.0, 0.0, 1.0, 9.0])
    mask = visible(2 + jnp.arange(5)[None], jnp.arange(7)[None], 3) & (jnp.arange(5) < 4)[None, None, :, None]

    def ours(q, kv, sinks):
        if len(parts) == 1:
            return attend(q, kv, mask, 0.3, sinks=sinks)
        each = [attend_partially(q, KV(kv.k[:, s], kv.v[:, s]), mask[..., s], 0.3) for s in parts]
        return merge(each, sinks)

    found, wanted = (
        jax.jit(jax.value_and_grad(lambda *given, f=f: jnp.sum(jnp.sin(f(*given))), (0, 1, 2)))(q, kv, sinks)
        for f in (ours, lambda q, kv, sinks: with_sinks(q, kv, mask, sinks))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), found, wanted)


@pytest.mark.parametrize("window", [NOWHERE, 3])
def test_parts_merged_equal_plain(heads, window):
    """Values and gradients; with the window, some queries see none of the first three keys."""
    q, kv, _ = heads
    mask = visible(2 + jnp.arange(5)[None], jnp.arange(7)[None], window)

    @jax.jit
    def in_parts(q, kv):
        parts = (slice(3), slice(3, 7))
        return merge([attend_partially(q, KV(kv.k[:, s], kv.v[:, s]), mask[..., s], 0.3) for s in parts])

    @jax.jit
    def plain(q, kv):
        return plain_attention(q, kv, mask, 0.3)

    np.testing.assert_allclose(in_parts(q, kv), plain(q, kv), atol=1e-6)
    ours, expected = (
        jax.jit(jax.grad(lambda q, kv, f=f: jnp.sum(jnp.sin(f(q, kv))), (0, 1)))(q, kv)
        for f in (in_parts, plain)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), ours, expected)


def test_cap_bounds_the_scores(heads):
    q, kv, _ = heads
    mask = visible(2 + jnp.arange(5)[None], jnp.arange(7)[None])
    nearly_even = attend(100 * q, kv, mask, scale=1.0, cap=1e-4)
    seen = jnp.cumsum(jnp.repeat(kv.v, 2, axis=2), axis=1)[:, 2:] / jnp.arange(3.0, 8)[None, :, None, None]
    np.testing.assert_allclose(nearly_even, seen, atol=1e-3)


def test_empty_slots_are_seen_by_nobody():
    mask = visible(jnp.array([[4], [6]]), jnp.array([[0, 1, NOWHERE, 4], [0, NOWHERE, NOWHERE, 6]]))
    np.testing.assert_array_equal(mask[:, 0, 0], [[True, True, False, True], [True, False, False, True]])


def test_gathering_has_the_gradient_of_a_look_up():
    indices, inverse = jnp.array([[2, 0, 9], [9, 1, 9]]), jnp.array([1, 4, 0])
    x, weights = jnp.arange(6.0).reshape(3, 2), jax.random.normal(jax.random.key(0), (2, 3, 2))

    def ours(x):
        return jnp.sum(weights * gather(x, indices, inverse))

    def plain(x):
        return jnp.sum(weights * x.at[indices].get(mode="fill", fill_value=0))

    np.testing.assert_allclose(jax.grad(ours)(x), jax.grad(plain)(x))


def test_rows_cut_to_their_lengths_equal_plain():
    """Values, and the gradients of all that goes in, the bias too; of one place up to the whole."""
    keys = jax.random.split(jax.random.key(0), 5)
    q, k, v, weight = (jax.random.normal(key, (4, 11, 2, 8)) for key in keys[:4])
    bias, lengths = jax.random.normal(keys[4], (1, 2, 11, 11)), jnp.array([1, 11, 6, 3])
    there = jnp.arange(11)[None] < lengths[:, None]

    def cut(q, k, v, bias):
        return jnp.sum(weight * attend_within(q, KV(k, v), lengths, 0.3, bias), where=there[..., None, None])

    def plain(q, k, v, bias):
        saw = plain_attention(q, KV(k, v), there[:, None, None], 0.3, bias)
        return jnp.sum(weight * saw, where=there[..., None, None])

    found, wanted = (jax.jit(jax.value_and_grad(f, range(4)))(q, k, v, bias) for f in (cut, plain))
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-6 * np.abs(other).max())
