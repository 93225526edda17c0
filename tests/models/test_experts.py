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
from mpt.models.layers import routed_feed_forward


@pytest.mark.parametrize("weighed", [True, False])
def test_each_token_meets_the_experts_that_its_router_chooses(weighed):
    """As token by token and expert by expert."""
    shapes = {"router": (4, 3), "expert_gate": (3, 4, 6), "expert_up": (3, 4, 6), "expert_down": (3, 6, 4)}
    w, x = normals(0, shapes), normal(1, 5, 4)

    def expert(row, e):
        return (np.maximum(row @ w["expert_gate"][e], 0) * (row @ w["expert_up"][e])) @ w["expert_down"][e]

    def token(row):
        shares = np.exp(row @ w["router"])
        chosen = np.argsort(-shares)[:2]
        total = shares[chosen].sum() if weighed else shares.sum()
        return sum(shares[e] * expert(row, e) for e in chosen) / total

    found = routed_feed_forward(jax.tree.map(jnp.asarray, w), jnp.asarray(x), "relu", 2, weighed)
    np.testing.assert_allclose(found, np.stack([token(row) for row in x]), rtol=1e-4, atol=1e-5)


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
