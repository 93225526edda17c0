"""What changes a model's computation is used or refused by its name, in folders and in GGUF files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from gguf_toy import write_gguf
from golden import tiny
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig

from mpt.data.tokenise import first_token
from mpt.errors import UserError
from mpt.loading.config_file import read_config
from mpt.loading.families import FAMILIES
from mpt.loading.families.text_half import MULTIMODAL, text_config
from mpt.loading.fields import FIXED, HARMLESS, USED, declared
from mpt.loading.gguf.file import open_gguf
from mpt.loading.hf import load_pretrained, open_folder
from mpt.loading.shapes import abstract_backbone
from mpt.models.rope import Linear, Rope


@pytest.mark.parametrize("kind", [*FAMILIES, *MULTIMODAL])
def test_every_field_of_a_familys_config_is_known(kind):
    """A later transformers may add one: find out what it does, and put it where it belongs."""
    unknown = declared(AutoConfig.for_model(kind)).keys() - USED - HARMLESS - FIXED.keys()
    assert not unknown


def test_a_field_is_of_one_kind_only():
    assert not USED & HARMLESS and not USED & FIXED.keys() and not HARMLESS & FIXED.keys()


@pytest.mark.parametrize("family", [*tiny.DECODERS, *tiny.ENCODER_DECODERS])
def test_the_fields_that_are_said_to_change_nothing_are_not_read(family, tmp_path):
    """A function that reads one of them would find another value in its place."""
    config = AutoConfig.for_model(**tiny.CONFIGS[family])

    def read():
        text = text_config(config) if config.model_type in MULTIMODAL else config
        return FAMILIES[text.model_type].spec(text, set())

    before = read()
    for part in (config, getattr(config, "text_config", config)):
        for name in (declared(part).keys() & HARMLESS) - {"output_attentions"}:
            object.__setattr__(part, name, "another value")
    assert read() == before


@pytest.fixture
def folder_with(tmp_path):
    """A checkpoint of a family whose config has other values."""

    def write(family: str, **values):
        tiny.save(family, tmp_path)
        file = tmp_path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        ("gemma2", "use_bidirectional_attention", True),
        ("gemma3_text", "use_bidirectional_attention", True),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "add_cross_attention", True),
        ("llama", "is_causal", False),
        ("mistral", "quantization_config", {"quant_method": "gptq", "bits": 4}),
        ("llama", "per_layer_config", {"1": {"hidden_act": "relu"}}),
        ("llama", "hidden_size", 0),
        ("t5-1.0", "d_kv", -8),
        ("qwen3", "vocab_size", 2**40),
        ("qwen3_5_text", "linear_conv_kernel_dim", 0),
        ("gemma4_text-experts", "top_k_experts", 0),
        ("gemma4_text", "use_bidirectional_attention", "all"),
        ("gemma4_text", "per_layer_config", {"1": {"intermediate_size": 8}}),
    ],
)
def test_a_value_that_is_not_computed_is_refused_by_its_fields_name(folder_with, family, name, value):
    with pytest.raises(UserError, match=rf"config.json: {name} "):
        load_pretrained(str(folder_with(family, **{name: value})))


@pytest.mark.parametrize(
    ("rope", "fault"),
    [
        ({"rope_type": "dynamic", "factor": 4.0}, "'dynamic'"),
        ({"rope_type": "yarn", "factor": 0.0}, "factor is out of range"),
        ({"rope_type": "yarn", "factor": 4.0, "beta_slow": 40}, "beta_fast must be above beta_slow"),
        (
            {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0], "factor": 4.0},
            "short_factor must have 4 numbers",
        ),
        ({"rope_type": "linear", "factor": 4.0, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_type": "linear", "factor": -1.0}, "out of range"),
        ({"rope_type": "linear"}, "factor"),
    ],
)
def test_a_rope_that_is_not_computed_is_refused(folder_with, rope, fault):
    with pytest.raises(UserError, match=fault):
        load_pretrained(str(folder_with("llama", rope_parameters={"rope_theta": 100.0, **rope})))


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("llama", {"sliding_window": 3, "layer_types": ["sliding_attention"] * 4}),
        ("mistral", {"attention_bias": True, "mlp_bias": True}),
        ("gemma2", {"hidden_act": "relu", "mlp_bias": True}),
        ("qwen2", {"attention_bias": False}),
    ],
)
def test_what_transformers_does_not_read_of_a_family_mpt_does_not_either(folder_with, family, values):
    plain = load_pretrained(str(folder_with(family))).backbone.spec
    assert load_pretrained(str(folder_with(family, **values))).backbone.spec == plain


@pytest.mark.parametrize(
    ("family", "values", "fault"),
    [
        ("qwen3_5_text", {"layer_types": ["sliding_attention"] * 6}, "layer_types: 'sliding_attention'"),
        ("qwen3_5_text", {"linear_value_head_dim": 8}, "linear_value_head_dim: values of another width"),
        ("qwen3_5_text", {"linear_num_value_heads": 3}, "linear_num_value_heads is 3, no multiple of"),
        ("gemma4_text", {"num_kv_shared_layers": 6}, "num_kv_shared_layers: no layer is left"),
        ("gemma4_text", {"pad_token_id": None}, "pad_token_id: there is none"),
    ],
)
def test_layers_that_are_not_computed_are_refused(folder_with, family, values, fault):
    with pytest.raises(UserError, match=fault):
        load_pretrained(str(folder_with(family, **values)))


@pytest.mark.parametrize("family", ["qwen3_5_text", "qwen3_5", "gemma4_text", "gemma4"])
def test_a_config_that_transformers_has_saved_is_the_same(family, tmp_path):
    """It writes the layers that differ in other words than published checkpoints have."""
    tiny.save(family, tmp_path)
    before = read_config(tmp_path)
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    spec = FAMILIES[before.model_type].spec
    assert spec(read_config(tmp_path), set()) == spec(before, set())


@pytest.mark.parametrize(
    ("family", "name", "like"),
    [
        ("qwen3_5_text", "mtp.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        (
            "gemma4_text",
            "model.layers.5.self_attn.k_proj.weight",
            "model.layers.3.self_attn.k_proj.weight",
        ),
    ],
)
def test_tensors_that_the_model_does_not_use_are_left_aside(folder_with, family, name, like):
    """Published checkpoints have them, and transformers passes over them; of a layer that uses them, it is
    an error."""
    folder = folder_with(family)
    before = load_pretrained(str(folder)).backbone
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: tensors[like].copy()}, folder / "model.safetensors")
    after = load_pretrained(str(folder)).backbone
    for kind, stack in before.stacks.items():
        for weight in stack:
            np.testing.assert_array_equal(after.stacks[kind][weight][...], stack[weight][...])


def test_a_missing_tensor_of_a_layer_among_others_is_named_by_its_number(folder_with):
    folder = folder_with("qwen3_5_text")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.3.linear_attn.A_log"]
    tensors["model.layers.0.self_attn.k_proj.weight"] = tensors["model.layers.2.self_attn.k_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_pretrained(str(folder))
    assert "'model.layers.3.linear_attn.A_log' is missing" in str(error.value)
    assert "in_proj_qkv.weight' are the same weight" in str(error.value)


def test_a_layer_of_a_type_that_is_not_computed_is_refused(folder_with):
    kinds = ["chunked_attention", *["full_attention"] * 3]
    with pytest.raises(UserError, match="layer_types: 'chunked_attention' is not supported"):
        load_pretrained(str(folder_with("qwen3", layer_types=kinds)))


def test_a_config_that_transformers_reads_as_another_type_is_refused(folder_with):
    with pytest.raises(UserError, match="of the type 'ministral'"):
        load_pretrained(str(folder_with("mistral", layer_types=["full_attention"] * 4)))


def _add(folder, name, change=lambda table: table):
    """Stores the embedding of a checkpoint once more, under another name."""
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors.get("shared.weight", tensors.get("model.embed_tokens.weight"))
    tensors[name] = np.ascontiguousarray(change(embedding))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return str(folder), tensors[name]


@pytest.mark.parametrize("family", ["llama-3", "t5-1.0", "umt5"])
def test_a_head_of_the_files_own_is_used_although_the_config_ties_it(folder_with, family):
    name, head = _add(folder_with(family), "lm_head.weight", lambda table: 2 * table[::-1])
    backbone = load_pretrained(name).backbone
    np.testing.assert_array_equal(backbone.ends["head"][...], head)
    assert not backbone.spec.tied and not abstract_backbone(name).spec.tied


@pytest.mark.parametrize("family", ["llama-3", "t5-1.0"])
def test_a_tied_head_that_is_stored_once_more_stays_tied(folder_with, family):
    name, _ = _add(folder_with(family), "lm_head.weight")
    assert load_pretrained(name).backbone.spec.tied and abstract_backbone(name).spec.tied


def test_an_encoders_table_of_its_own_is_refused(folder_with):
    name, _ = _add(folder_with("t5-1.0"), "encoder.embed_tokens.weight")
    load_pretrained(name)
    name, _ = _add(folder_with("t5-1.0"), "encoder.embed_tokens.weight", lambda table: -table)
    with pytest.raises(UserError, match=r"'encoder.embed_tokens.weight' in .* has no place in the model"):
        load_pretrained(name)


def test_weights_that_are_whole_numbers_are_refused(folder_with):
    folder = folder_with("llama")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.int8)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"'model.norm.weight' is stored as int8"):
        load_pretrained(str(folder))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.2.self_attn.k_proj.weight"])
def test_weights_that_are_not_finite_are_refused(folder_with, name, value):
    folder = folder_with("llama")
    tensors = load_file(folder / "model.safetensors")
    tensors[name].flat[3] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"'{name}' in model.safetensors has values that are not finite"):
        load_pretrained(str(folder))


def test_a_gguf_file_is_the_folder_of_the_same_weights(folder_with, tmp_path):
    folder = folder_with("toy-llama")
    ours = load_pretrained(str(write_gguf(tmp_path / "toy.gguf"))).backbone
    theirs = load_pretrained(str(folder)).backbone
    assert replace(ours.spec, norm_eps=1e-6) == theirs.spec  # the file has it in 32 bits
    for name in ("q", "k", "gate"):
        np.testing.assert_array_equal(ours.layers[name][...], theirs.layers[name][...])


@pytest.mark.parametrize(
    "fields",
    [
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
        {"llama.rope.scaling.factor": 4.0},
        {"llama.rope.scale_linear": 4.0},
    ],
)
def test_a_linear_rope_of_a_gguf_file_is_used(tmp_path, fields):
    spec = load_pretrained(str(write_gguf(tmp_path / "toy.gguf", fields))).backbone.spec
    assert spec.ropes == (Rope(10_000.0, Linear(4.0)),) * 2


def test_yarn_of_a_gguf_file_is_that_of_a_folder(tmp_path, folder_with):
    """The amplitude that llama.cpp computes is the folder's, times a factor of the file's."""
    scaling = {"type": "yarn", "factor": 4.0, "original_context_length": 16}
    fields = {f"llama.rope.scaling.{name}": value for name, value in scaling.items()}
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
    folder = load_pretrained(str(folder_with("toy-llama", rope_parameters=rope))).backbone.spec
    (ours,) = set(load_pretrained(str(write_gguf(tmp_path / "toy.gguf", fields))).backbone.spec.ropes)
    assert {replace(ours, amplitude=folder.ropes[0].amplitude)} == set(folder.ropes)
    assert ours.amplitude == pytest.approx(folder.ropes[0].amplitude)
    fields["llama.rope.scaling.attn_factor"] = 0.5
    halved = load_pretrained(str(write_gguf(tmp_path / "toy.gguf", fields))).backbone.spec.ropes[0]
    assert halved.amplitude == pytest.approx(ours.amplitude / 2)


def test_yarns_amplitude_in_a_gguf_file_is_that_of_its_factor(tmp_path):
    """The converter writes the folder's, which llama.cpp does not read: another one is not computed."""
    fields = {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}
    name = "llama.rope.scaling.yarn_attn_factor"
    for value in (0.5, 1.0):
        with pytest.raises(UserError, match=rf"toy.gguf: {name} is {value}, and mpt computes with 1.138"):
            open_gguf(write_gguf(tmp_path / "toy.gguf", {**fields, name: value}))
    config, _, _ = open_gguf(write_gguf(tmp_path / "toy.gguf", {**fields, name: 1 + 0.1 * np.log(4).item()}))
    assert config.rope_parameters["attention_factor"] == pytest.approx(1.138629436)


@pytest.mark.parametrize("kind", ["linear", "yarn", "longrope"])
def test_two_ways_of_stretching_at_once_are_refused(tmp_path, kind):
    fields = {"llama.rope.scaling.type": kind, "llama.rope.scaling.factor": 4.0}
    with pytest.raises(
        UserError, match=r"rope.scaling.factor is 4.0, and the file has rope_freqs.weight, too"
    ):
        open_gguf(write_gguf(tmp_path / "toy.gguf", fields, {"rope_freqs.weight": [1.0, 1.0, 2.0, 8.0]}))


def test_factors_of_a_gguf_file_stretch_each_pair(tmp_path):
    """Llama 3's are for every text; LongRoPE's for those within the pretraining's length."""
    plain = Rope(10_000.0).frequencies(8)
    llama3 = write_gguf(tmp_path / "toy.gguf", tensors={"rope_freqs.weight": [1.0, 1.0, 2.0, 8.0]})
    backbone = load_pretrained(str(llama3)).backbone
    np.testing.assert_allclose(backbone.spec.ropes[0].frequencies(8), plain / [1, 1, 2, 8])
    assert (backbone.spec.ropes[0].amplitude, backbone.positions) == (1.0, 64)
    fields = {"llama.rope.scaling.original_context_length": 16, "llama.rope.scaling.attn_factor": 1.5}
    tensors = {"rope_factors_long.weight": [9.0] * 4, "rope_factors_short.weight": [1.0, 2.0, 4.0, 4.0]}
    longrope = load_pretrained(str(write_gguf(tmp_path / "toy.gguf", fields, tensors))).backbone
    np.testing.assert_allclose(longrope.spec.ropes[0].frequencies(8), plain / [1, 2, 4, 4])
    assert (longrope.spec.ropes[0].amplitude, longrope.positions) == (1.5, 16)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("llama.rope.scaling.type", "longrope"),
        ("llama.rope.scaling.yarn_log_multiplier", 0.1),
        ("llama.rope.dimension_count", 4),
        ("llama.attention.value_length", 4),
        ("llama.attention.causal", False),
        ("llama.attention.sliding_window", 5),
        ("llama.attention.clamp_kqv", 8.0),
        ("llama.expert_count", 8),
        ("llama.logit_scale", 0.5),
        ("llama.rope.scaling.attn_factor", 0.5),
        ("llama.vocab_size", 12),
        ("llama.something_new", 1),
        ("split.count", 2),
        ("tokenizer.ggml.add_space_prefix", True),
    ],
)
def test_a_gguf_field_that_is_not_computed_is_refused_by_its_name(tmp_path, name, value):
    more = {"llama.rope.scaling.factor": 4.0} if name == "llama.rope.scaling.type" else {}
    with pytest.raises(UserError, match=rf"toy.gguf: .*{name}"):
        open_gguf(write_gguf(tmp_path / "toy.gguf", {name: value, **more}))


@pytest.mark.parametrize("added", [True, False])
def test_a_gguf_tokenizer_begins_texts_where_the_file_says_so(tmp_path, added):
    fields = {"tokenizer.ggml.bos_token_id": 282, "tokenizer.ggml.add_bos_token": added}
    _, tokenizer, _ = open_gguf(write_gguf(tmp_path / "toy.gguf", fields))
    bare = tokenizer("ab c", add_special_tokens=False)["input_ids"]
    assert tokenizer("ab c")["input_ids"] == ([282, *bare] if added else bare)
    assert first_token(tokenizer, "auto") == (282 if added else None)


def test_a_gguf_file_must_name_the_token_that_begins_texts(tmp_path):
    file = write_gguf(tmp_path / "toy.gguf", {"tokenizer.ggml.add_bos_token": True})
    with pytest.raises(UserError, match=r"toy\.gguf: .*tokenizer\.ggml\.bos_token_id"):
        open_gguf(file)


def test_the_end_of_text_is_the_configs_where_the_tokenizer_has_none(folder_with):
    folder = folder_with("llama")
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink(missing_ok=True)
    _, tokenizer, _ = open_folder(folder)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("w2", 2)
    without_end = folder_with("llama", eos_token_id=None)
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(UserError, match="no end-of-text token, which ends every answer"):
        open_folder(without_end)
