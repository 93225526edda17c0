"""Tensors that hold several weights, and weights that come from many tensors, are read part by part."""

from __future__ import annotations

import numpy as np
import pytest
from golden import tiny
from safetensors.numpy import load_file, save_file

from mpt.errors import UserError
from mpt.loading.hf import load_pretrained
from mpt.models.cost import parameter_count

EXPERT = "model.layers.2.mlp.experts.3.up_proj.weight"


@pytest.fixture
def broken(tmp_path):
    """A function that changes the tensors of a family's checkpoint, and loads it."""

    def broken(family, change):
        tiny.save(family, tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        return load_pretrained(str(tmp_path)).backbone

    return broken


def test_a_fused_matrix_is_its_parts_one_after_another(tmp_path):
    tensors, layers = tiny.weights("phi3"), load_pretrained(str(tiny.save("phi3", tmp_path))).backbone.layers
    fused = tensors["model.layers.1.self_attn.qkv_proj.weight"].reshape(8, 8, 32)  # 4 heads, then 2 and 2
    for name, part in {"q": fused[:4], "k": fused[4:6], "v": fused[6:]}.items():
        np.testing.assert_array_equal(layers[name][1], part.transpose(2, 0, 1))
    fused = tensors["model.layers.1.mlp.gate_up_proj.weight"]
    np.testing.assert_array_equal(layers["gate"][1], fused[:40].T)
    np.testing.assert_array_equal(layers["up"][1], fused[40:].T)


def test_a_matrix_fused_unit_by_unit_is_its_parts_in_turn(tmp_path):
    layers = load_pretrained(str(tiny.save("gpt_oss", tmp_path))).backbone.layers
    tensors = tiny.weights("gpt_oss")
    for end in ("", "_bias"):
        fused = tensors[f"model.layers.1.mlp.experts.gate_up_proj{end}"]
        np.testing.assert_array_equal(layers[f"expert_gate{end}"][1], fused[..., ::2])
        np.testing.assert_array_equal(layers[f"expert_up{end}"][1], fused[..., 1::2])


def test_a_matrix_fused_unit_by_unit_of_another_size_is_named(broken):
    name = "model.layers.1.mlp.experts.gate_up_proj"
    for odd in (78, 40, 79):

        def cut(tensors, odd=odd):
            tensors[name] = tensors[name][..., :odd].copy()

        with pytest.raises(UserError, match=rf"'{name}' in model.safetensors has shape \(5, 32, {odd}\)"):
            broken("gpt_oss", cut)


def test_a_fused_matrix_of_another_size_is_named(broken):
    name = "model.layers.2.self_attn.qkv_proj.weight"
    with pytest.raises(UserError, match=r"qkv_proj.weight' in model.safetensors has shape \(56, 32\)"):
        broken("phi3", lambda tensors: tensors.update({name: tensors[name][:56]}))


def test_an_experts_matrix_has_its_place(tmp_path):
    backbone = load_pretrained(str(tiny.save("qwen3_moe", tmp_path))).backbone
    tensors = tiny.weights("qwen3_moe")
    np.testing.assert_array_equal(backbone.layers["expert_up"][2, 3], tensors[EXPERT].T)
    assert parameter_count(backbone) == sum(tensor.size for tensor in tensors.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(EXPERT), f"'{EXPERT}' is missing"),
        (
            lambda tensors: tensors.update({EXPERT.replace("experts.3", "experts.5"): tensors[EXPERT]}),
            "experts.5.up_proj.weight' in model.safetensors is of an expert beyond the config's",
        ),
        (
            lambda tensors: tensors.update({EXPERT.replace("layers.2", "layers.4"): tensors[EXPERT]}),
            "experts.3.up_proj.weight' in model.safetensors is of a layer beyond the config's",
        ),
    ],
)
def test_an_experts_matrix_that_does_not_fit_is_named(broken, change, message):
    with pytest.raises(UserError, match=message):
        broken("qwen3_moe", change)
