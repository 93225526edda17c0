"""Products with frozen bfloat16 matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

from mpt.models.layers import REMAT, product, scan_over


def rounded(x):
    return x.astype(jnp.bfloat16).astype(jnp.float32)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "axes"), [((3, 5, 8), (8, 2, 4), 1), ((6, 2, 4), (2, 4, 8), 2)]
)
def test_products_are_those_of_rounded_factors_in_float32(x_shape, w_shape, axes):
    keys = jax.random.split(jax.random.key(0), 3)
    x, w = jax.random.normal(keys[0], x_shape), jax.random.normal(keys[1], w_shape).astype(jnp.bfloat16)
    y, pull = jax.vjp(lambda x, w: product(x, w, axes), x, w)
    exact = jnp.tensordot(rounded(x), w.astype(jnp.float32), axes)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)

    gradient = jax.random.normal(keys[2], y.shape)
    of_x, of_w = pull(gradient)
    _, exact_pull = jax.vjp(lambda x, w: jnp.tensordot(x, w, axes), rounded(x), w.astype(jnp.float32))
    exact_x, exact_w = exact_pull(rounded(gradient))
    assert (of_x.dtype, of_w.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(of_x, exact_x, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(of_w, exact_w.astype(jnp.bfloat16))


def test_other_types_multiply_in_the_type_of_the_activations():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert product(x, jnp.ones((3, 4), jnp.bfloat16)).dtype == jnp.bfloat16
    assert product(x.astype(jnp.float32), jnp.ones((3, 4))).dtype == jnp.float32


def test_the_backward_pass_reads_the_products_that_were_stored(capsys):
    w = jnp.ones((4, 4), jnp.bfloat16)
    layer = jax.checkpoint(lambda x: jnp.sin(product(x, w)), policy=REMAT["elementwise"])
    print_saved_residuals(layer, jnp.ones((2, 4)))
    assert "f32[2,4] named 'product'" in capsys.readouterr().out


@pytest.mark.parametrize("span", [(0, 3), (1, 3)])
def test_a_loop_gets_each_layers_weights_as_they_are(span):
    stacked = {
        "up": jnp.arange(6.0).reshape(3, 2).astype(jnp.bfloat16),
        "window": jnp.arange(3),
        "norm": jnp.ones((3, 2)),
    }
    over, layer_of = scan_over(stacked, span)
    _, found = jax.lax.scan(lambda _, element: (None, layer_of(element)), None, over)
    for name, weights in stacked.items():
        assert found[name].dtype == weights.dtype
        np.testing.assert_array_equal(found[name], weights[slice(*span)])
