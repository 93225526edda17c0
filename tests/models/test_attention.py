"""The fused attention equals the plain formula; windows and empty slots are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mpt.models.attention import KV, NOWHERE, attend, plain_attention, visible


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
    bias = bias if biased else None
    fused, plain = (f(q, kv, mask, scale=0.3, bias=bias) for f in (attend, plain_attention))
    np.testing.assert_allclose(fused, plain, atol=1e-6)


def test_cap_bounds_the_scores(heads):
    q, kv, _ = heads
    mask = visible(2 + jnp.arange(5)[None], jnp.arange(7)[None])
    nearly_even = attend(100 * q, kv, mask, scale=1.0, cap=1e-4)
    seen = jnp.cumsum(jnp.repeat(kv.v, 2, axis=2), axis=1)[:, 2:] / jnp.arange(3, 8)[:, None, None]
    np.testing.assert_allclose(nearly_even, seen, atol=1e-3)


def test_empty_slots_are_seen_by_nobody():
    mask = visible(jnp.array([[4], [6]]), jnp.array([[0, 1, NOWHERE, 4], [0, NOWHERE, NOWHERE, 6]]))
    np.testing.assert_array_equal(mask[:, 0, 0], [[True, True, False, True], [True, False, False, True]])
