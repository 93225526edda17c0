"""Layers whose router chooses experts for each token: in 8 bits, counted, and with LoRA."""

from __future__ import annotations

import json

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
from mpt.models.layers import ClampedSwiGLU, chosen_experts, every_expert, feed_forward
from mpt.models.quantize import rounded

MATRICES = {"gate": (3, 4, 6), "up": (3, 4, 6), "down": (3, 6, 4)}
BIASES = {"gate_bias": (3, 6), "up_bias": (3, 6), "down_bias": (3, 4)}
FAMILIES = ["qwen3_moe", "gpt_oss"]


@pytest.mark.parametrize("way", [every_expert, chosen_experts])
@pytest.mark.parametrize(
    ("shapes", "activation"), [(MATRICES, "silu"), (MATRICES | BIASES, ClampedSwiGLU(1.5, 0.8))]
)
def test_each_token_meets_the_experts_that_it_has_chosen(way, shapes, activation):
    """As token by token and expert by expert, in the gradient too, by either way; in 8 bits as well."""
    drawn = normals(0, shapes)
    x, shares = jnp.asarray(normal(1, 5, 4)), jax.nn.softmax(jnp.asarray(normal(2, 5, 2)))
    chosen = jnp.array([[0, 1], [2, 0], [1, 0], [0, 2], [2, 0]])

    def naive(experts, x):
        def one(row, e):
            return feed_forward({name: part[e] for name, part in experts.items()}, row, activation)

        return jnp.stack(
            [
                sum(share * one(row, e) for share, e in zip(row_shares, row_chosen))
                for row, row_shares, row_chosen in zip(x, shares, chosen)
            ]
        )

    for quantised in (False, True):
        experts = {name: jnp.asarray(matrix) for name, matrix in drawn.items()}
        if quantised:
            pairs = {name: rounded(experts[name], (1,)) for name in MATRICES}
            experts |= {name: matrix for name, (matrix, _) in pairs.items()}
            experts |= {f"{name}_scale": scale for name, (_, scale) in pairs.items()}
        found, back = jax.vjp(lambda x: way(experts, x, shares, chosen, activation), x)  # noqa: B023
        wanted, naive_back = jax.vjp(lambda x: naive(experts, x), x)  # noqa: B023
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            *(b(jnp.ones_like(x))[0] for b in (back, naive_back)), rtol=1e-4, atol=1e-4
        )


def test_a_clamped_gate_is_its_formula():
    """Below, within and above the limits, of both."""
    gate, up = np.meshgrid([-9.0, -0.5, 0.7, 3.0], [-2.0, -0.3, 0.4, 5.0])
    clamped, least = np.minimum(gate, 0.8), np.clip(up, -0.8, 0.8)
    wanted = clamped / (1 + np.exp(-1.5 * clamped)) * (least + 1)
    found = ClampedSwiGLU(1.5, 0.8)(jnp.asarray(gate, jnp.float32), jnp.asarray(up, jnp.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_of_experts_is_refused(tmp_path, family):
    backbone = abstract_backbone(str(tiny.save(family, tmp_path)))
    with pytest.raises(UserError, match="experts cannot be updated"):
        with_lora(backbone, 2, "all", jax.random.key(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_in_8_bits_are_near_those_in_full(tmp_path, family):
    folder, batch = str(tiny.save(family, tmp_path)), tiny.collate(ROWS["decoder"], [0, 0, 0])
    logits = []
    for weights in ("full", "int8"):
        backbone = load_pretrained(folder, weights=weights).backbone
        logits.append(jax.jit(lambda b, p: b(batch, p).logits)(backbone, prompts(1)))
    assert backbone.layers["expert_down"].dtype == np.int8
    vectors = [name for name in backbone.layers if name.endswith(("_bias", "sinks"))]
    assert all(backbone.layers[name].dtype == np.float32 for name in vectors)
    np.testing.assert_allclose(*logits, atol=0.1 * np.abs(logits[0]).max())
    assert not np.array_equal(*logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_chosen_experts_are_counted(tmp_path, family):
    """Of five experts two: a batch costs what it would if a layer had two."""
    backbone = abstract_backbone(str(tiny.save(family, tmp_path)))
    layers = backbone.layers
    experts = sum(layers[name].size for name in layers if name.startswith("expert_"))
    active = parameter_count(layers) - experts * 3 / 5
    tokens = batch_cost(backbone, 1, 4, [10], [1]).matrices - 2 * tiny.VOCAB * tiny.WIDTH
    assert tokens == pytest.approx(2 * active * 14)


def test_more_experts_for_a_token_than_there_are_is_refused(tmp_path):
    folder = tiny.save("gpt_oss", tmp_path)
    (folder / "config.json").write_text(json.dumps(tiny.CONFIGS["gpt_oss"] | {"num_experts_per_tok": 6}))
    with pytest.raises(UserError, match="num_experts_per_tok is 6, of 5 experts"):
        abstract_backbone(str(folder))
