"""Layers whose router chooses experts for each token: in 8 bits, counted, and with LoRA."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import normal, normals, tiny
from golden.inputs import ROWS, prompts

from mpt.errors import UserError
from mpt.loading.hf import load_pretrained
from mpt.loading.shapes import abstract_backbone
from mpt.methods.lora import with_lora
from mpt.models.cost import batch_cost, parameter_count
from mpt.models.layers import chosen_experts, every_expert, feed_forward
from mpt.models.quantize import rounded


@pytest.mark.parametrize("way", [every_expert, chosen_experts])
def test_each_token_meets_the_experts_that_it_has_chosen(way):
    """As token by token and expert by expert, in the gradient too, by either way; in 8 bits as well."""
    drawn = normals(0, {"gate": (3, 4, 6), "up": (3, 4, 6), "down": (3, 6, 4)})
    x, shares = jnp.asarray(normal(1, 5, 4)), jax.nn.softmax(jnp.asarray(normal(2, 5, 2)))
    chosen = jnp.array([[0, 1], [2, 0], [1, 0], [0, 2], [2, 0]])

    def naive(experts, x):
        return jnp.stack(
            [
                sum(
                    share * feed_forward({name: matrix[e] for name, matrix in experts.items()}, row, "silu")
                    for share, e in zip(row_shares, row_chosen)
                )
                for row, row_shares, row_chosen in zip(x, shares, chosen)
            ]
        )

    for quantised in (False, True):
        experts = {name: jnp.asarray(matrix) for name, matrix in drawn.items()}
        if quantised:
            pairs = {name: rounded(matrix, (1,)) for name, matrix in experts.items()}
            experts = {name: matrix for name, (matrix, _) in pairs.items()}
            experts |= {f"{name}_scale": scale for name, (_, scale) in pairs.items()}
        found, back = jax.vjp(lambda x: way(experts, x, shares, chosen, "silu"), x)  # noqa: B023
        wanted, naive_back = jax.vjp(lambda x: naive(experts, x), x)  # noqa: B023
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            *(b(jnp.ones_like(x))[0] for b in (back, naive_back)), rtol=1e-4, atol=1e-4
        )


def test_lora_of_experts_is_refused(tmp_path):
    backbone = abstract_backbone(str(tiny.save("qwen3_moe", tmp_path)))
    with pytest.raises(UserError, match="experts have no updates; set matrices to attention"):
        with_lora(backbone, 2, "all", jax.random.key(0))


def test_experts_in_8_bits_are_near_those_in_full(tmp_path):
    folder, batch = str(tiny.save("qwen3_moe", tmp_path)), tiny.collate(ROWS["decoder"], [0, 0, 0])
    logits = []
    for weights in ("full", "int8"):
        backbone = load_pretrained(folder, weights=weights).backbone
        logits.append(jax.jit(lambda b, p: b(batch, p).logits)(backbone, prompts(1)))
    assert backbone.layers["expert_down"].dtype == np.int8
    np.testing.assert_allclose(*logits, atol=0.1 * np.abs(logits[0]).max())
    assert not np.array_equal(*logits)


def test_only_the_chosen_experts_are_counted(tmp_path):
    """Of five experts two: a batch costs what it would if a layer had two."""
    backbone = abstract_backbone(str(tiny.save("qwen3_moe", tmp_path)))
    layers = backbone.layers
    experts = sum(layers[name].size for name in ("expert_gate", "expert_up", "expert_down"))
    active = parameter_count(layers) - experts * 3 / 5
    tokens = batch_cost(backbone, 1, 4, [10], [1]).matrices - 2 * tiny.VOCAB * tiny.WIDTH
    assert tokens == pytest.approx(2 * active * 14)
