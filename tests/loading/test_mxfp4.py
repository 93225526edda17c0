"""Experts stored in 4 bits are read as the numbers that they stand for, or refused by name."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import tiny
from golden.inputs import ROWS, prompts
from safetensors.numpy import save_file

from mpt.errors import UserError
from mpt.loading.families.mxfp4 import unpacked
from mpt.loading.hf import load_pretrained
from mpt.loading.shapes import abstract_backbone
from mpt.models.cost import parameter_count

EXPERTS, WIDTH, UNITS = 5, tiny.WIDTH, 64  # blocks are of 32, so there must be as many units or twice
NAME = "model.layers.{}.mlp.experts.{}"
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}


def packed() -> dict[str, np.ndarray]:
    """The tiny model's tensors, its experts drawn anew, in 4 bits."""
    tensors = {name: x for name, x in tiny.weights("gpt_oss").items() if ".experts." not in name}
    draw = np.random.RandomState(0).randint
    shapes = {"gate_up_proj": (2 * UNITS, WIDTH // 32), "down_proj": (WIDTH, UNITS // 32)}
    for layer in range(4):
        for matrix, (outputs, blocks) in shapes.items():
            name = NAME.format(layer, matrix)
            tensors[f"{name}_blocks"] = draw(0, 256, (EXPERTS, outputs, blocks, 16)).astype(np.uint8)
            tensors[f"{name}_scales"] = draw(120, 126, (EXPERTS, outputs, blocks)).astype(np.uint8)
            tensors[f"{name}_bias"] = 0.3 * draw(-3, 4, (EXPERTS, outputs)).astype(np.float32)
    return tensors


@pytest.fixture
def folder(tmp_path):
    """A function that writes a checkpoint of these tensors; its path."""

    def write(tensors, **values):
        tiny.write(tmp_path, "gpt_oss", tiny.tokenizer(), tensors)
        facts = tiny.CONFIGS["gpt_oss"] | {"intermediate_size": UNITS, "quantization_config": MXFP4}
        (tmp_path / "config.json").write_text(json.dumps(facts | values))
        return str(tmp_path)

    return write


def number(byte: int, upper: bool, scale: int) -> float:
    """A sign, two bits of exponent with 1 added, one of fraction; without exponent, no leading one."""
    bits = byte >> 4 if upper else byte & 15
    exponent, fraction = bits >> 1 & 3, bits & 1
    value = (1 + fraction / 2) * 2.0 ** (exponent - 1) if exponent else fraction / 2
    return (-value if bits & 8 else value) * 2.0 ** (scale - 127)


def test_every_number_of_four_bits_is_read():
    blocks = np.arange(256, dtype=np.uint8).reshape(16, 1, 16)
    scales = np.linspace(1, 250, 16).astype(np.uint8)[:, None]
    expected = [
        [number(byte, upper, scale) for byte in row for upper in (False, True)]
        for row, scale in zip(blocks[:, 0].tolist(), scales[:, 0].tolist())
    ]
    np.testing.assert_array_equal(unpacked(blocks, scales), np.array(expected, np.float32))


def test_a_folder_in_4_bits_is_that_of_its_numbers(folder):
    tensors = packed()
    path = folder(tensors)
    layers = load_pretrained(path).backbone.layers
    assert layers["expert_gate"].shape == (4, EXPERTS, WIDTH, UNITS) and layers["sinks"].shape == (4, 4)
    name = NAME.format(2, "gate_up_proj")
    blocks, scales = tensors[f"{name}_blocks"], tensors[f"{name}_scales"]
    for which, target in enumerate(("expert_gate", "expert_up")):
        for expert, unit, place in [(0, 0, 0), (3, 17, 5), (4, 63, 30)]:
            byte = int(blocks[expert, 2 * unit + which, 0, place // 2])
            value = number(byte, bool(place % 2), int(scales[expert, 2 * unit + which, 0]))
            assert layers[target][2, expert, place, unit] == value
    assert {leaf.shape for leaf in jax.tree.leaves(abstract_backbone(path).layers)} == {
        leaf.shape for leaf in jax.tree.leaves(layers)
    }


DOWN = NAME.format(1, "down_proj")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda tensors: tensors.pop(f"{DOWN}_scales"), f"'{DOWN}_blocks' is there without '_scales'"),
        (lambda tensors: tensors.pop(f"{DOWN}_blocks"), f"'{DOWN}_scales' is there without '_blocks'"),
        (
            lambda tensors: tensors.update({f"{DOWN}_scales": tensors[f"{DOWN}_scales"][:, :5]}),
            rf"'{DOWN}' has blocks of shape \(5, 32, 2, 16\) and scales of shape \(5, 5, 2\)",
        ),
        (
            lambda tensors: tensors.update({f"{DOWN}_blocks": tensors[f"{DOWN}_blocks"].astype(np.float32)}),
            f"'{DOWN}' is stored as float32, not in bytes",
        ),
        (
            lambda tensors: tensors.update({f"{DOWN}_scales": np.full_like(tensors[f"{DOWN}_scales"], 255)}),
            f"'{DOWN}' in model.safetensors has values that are not finite",
        ),
    ],
)
def test_tensors_that_are_none_are_named(folder, change, fault):
    tensors = packed()
    change(tensors)
    with pytest.raises(UserError, match=rf"(?s)^[^\n]*{fault}[^\n]*$"):
        load_pretrained(folder(tensors))


@pytest.mark.parametrize(
    "values", [{"quantization_config": {"quant_method": "gptq"}}, {"model_type": "llama"}]
)
def test_another_quantisation_is_refused_by_its_fields_name(folder, values):
    with pytest.raises(UserError, match=r"config\.json: quantization_config is"):
        load_pretrained(folder(packed(), **values))


def test_bfloat16_and_4_bits_of_the_same_numbers_are_one_model(folder, tmp_path):
    loaded = load_pretrained(folder(packed())).backbone
    plain = {name: x for name, x in packed().items() if not name.endswith(("_blocks", "_scales"))}
    for layer in range(4):
        both = [loaded.layers[name][layer] for name in ("expert_gate", "expert_up")]
        up = np.stack(both, axis=-1).reshape(EXPERTS, WIDTH, 2 * UNITS)
        plain[NAME.format(layer, "gate_up_proj")] = up.astype(jnp.bfloat16)
        plain[NAME.format(layer, "down_proj")] = np.asarray(loaded.layers["expert_down"][layer], jnp.bfloat16)
    save_file(plain, tmp_path / "model.safetensors", {"format": "pt"})
    for other in ({}, {"quantization_config": None}):
        again = load_pretrained(folder(plain, **other)).backbone
        jax.tree.map(np.testing.assert_array_equal, dict(again.layers), dict(loaded.layers))


@pytest.mark.full
def test_logits_and_numbers_are_transformers(folder, torch):
    """What transformers unpacks to float32 where there is no GPU."""
    from transformers import AutoModelForCausalLM, Mxfp4Config
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    tensors = packed()
    name = NAME.format(3, "down_proj")
    pair = [tensors[name + end] for end in ("_blocks", "_scales")]
    theirs = convert_moe_packed_tensors(*map(torch.tensor, pair), dtype=torch.float32).numpy()
    path = folder(tensors)
    backbone = load_pretrained(path).backbone
    np.testing.assert_array_equal(backbone.layers["expert_down"][3], theirs)

    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(
        path, quantization_config=Mxfp4Config(dequantize=True), **options
    )
    vectors, row = prompts(1), ROWS["decoder"][0]
    ids = torch.tensor([[*row.inputs, *row.targets[:-1]]])
    embedded = torch.cat([torch.tensor(vectors), model.get_input_embeddings()(ids)], dim=1)
    with torch.no_grad():
        theirs = model(inputs_embeds=embedded).logits[0, -len(row.targets) :].numpy()
    batch = tiny.collate([row], [0])
    ours = jax.jit(lambda b, p: b(batch, p).logits)(backbone, vectors)[0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_the_published_config_is_the_shape_that_plans_know(tmp_path):
    """That of gpt-oss-20b, of 20.9 billion parameters."""
    rope = {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096}
    published = {
        "attention_bias": True,
        "experts_per_token": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "initial_context_length": 4096,
        "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "num_local_experts": 32,
        "quantization_config": MXFP4,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {**rope, "rope_type": "yarn", "truncate": False},
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "vocab_size": 201088,
    }
    (tmp_path / "config.json").write_text(json.dumps(published))
    known = abstract_backbone("openai/gpt-oss-20b")
    assert abstract_backbone(str(tmp_path)).spec == known.spec
    assert parameter_count(known) == 20_914_757_184
