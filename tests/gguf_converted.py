"""Tiny GGUF files of many families, written as llama.cpp's converter writes them.

The names of tensors are those of the gguf package, which the converter asks, too. What it makes of fields and
tensors is in the classes of llama.cpp's ``conversion/*.py``, which the comments name.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import (
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFWriter,
    RopeScalingType,
    get_tensor_name_map,
    quantize,
)
from gguf_tokens import add_words
from golden import tiny
from transformers import AutoConfig

Tensors = Iterator[tuple[str, np.ndarray]]


def parameters(writer: GGUFWriter, c: Any) -> None:
    """TextModel.set_gguf_parameters, in base.py."""
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    if near := c.rope_parameters.get("sliding_attention"):
        writer.add_rope_freq_base_swa(near["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if rope["rope_type"] == "longrope":
        writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    for names, add in (
        (("num_local_experts", "num_experts"), writer.add_expert_count),
        (("num_experts_per_tok", "top_k_experts"), writer.add_expert_used_count),
        (("head_dim",), writer.add_key_length),
        (("head_dim",), writer.add_value_length),
    ):
        if found := [value for name in names if (value := getattr(c, name, None)) is not None]:
            add(found[0])
    writer.add_file_type(0)


def of_llama(writer: GGUFWriter, c: Any) -> None:
    """LlamaModel, in llama.py."""
    parameters(writer, c)
    writer.add_vocab_size(c.vocab_size)
    writer.add_rope_dimension_count(getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)


def of_experts(writer: GGUFWriter, c: Any) -> None:
    """Qwen2MoeModel, in qwen.py."""
    parameters(writer, c)
    writer.add_expert_feed_forward_length(c.moe_intermediate_size)


def of_phi(writer: GGUFWriter, c: Any) -> None:
    """Phi3MiniModel, in phi.py, which does not begin with the general parameters."""
    rope, part = c.rope_parameters, c.rope_parameters.get("partial_rotary_factor", 1.0)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_rope_scaling_orig_ctx_len(c.original_max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_dimension_count(int(part * c.hidden_size) // c.num_attention_heads)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_file_type(0)
    writer.add_sliding_window(c.sliding_window or 0)
    if "long_factor" in rope:
        length = c.original_max_position_embeddings
        scale = c.max_position_embeddings / length
        writer.add_rope_scaling_attn_factors(np.sqrt(1 + np.log(scale) / np.log(length)))


def of_gpt2(writer: GGUFWriter, c: Any) -> None:
    """GPT2Model, in gpt2.py."""
    writer.add_block_count(c.n_layer)
    writer.add_context_length(c.n_positions)
    writer.add_embedding_length(c.n_embd)
    writer.add_feed_forward_length(4 * c.n_embd)
    writer.add_head_count(c.n_head)
    writer.add_layer_norm_eps(c.layer_norm_epsilon)
    writer.add_file_type(0)


def of_gemma2(writer: GGUFWriter, c: Any) -> None:
    """Gemma2Model, in gemma.py, which writes nothing of the rotary embedding."""
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_file_type(0)
    writer.add_attn_logit_softcapping(c.attn_logit_softcapping)
    writer.add_final_logit_softcapping(c.final_logit_softcapping)
    writer.add_sliding_window(c.sliding_window)


def of_gemma4(writer: GGUFWriter, c: Any) -> None:
    """Gemma3Model and Gemma4Model, in gemma.py, which read config.json as it is."""
    c.allow_global_per_layer_attribute_access = True
    parameters(writer, c)
    if c.final_logit_softcapping:
        writer.add_final_logit_softcapping(c.final_logit_softcapping)
    writer.add_sliding_window(c.sliding_window)
    writer.add_shared_kv_layers(c.num_kv_shared_layers)
    writer.add_embedding_length_per_layer_input(c.hidden_size_per_layer_input)
    near = [kind == "sliding_attention" for kind in c.layer_types]
    writer.add_sliding_window_pattern(near)
    full = c.per_layer_config["full_attention"]
    writer.add_key_length(full.head_dim)
    writer.add_value_length(full.head_dim)
    writer.add_key_length_swa(c.head_dim)
    writer.add_value_length_swa(c.head_dim)
    if c.moe_intermediate_size:
        writer.add_expert_feed_forward_length(c.moe_intermediate_size)
    if c.use_double_wide_mlp:
        with_keys = c.num_hidden_layers - c.num_kv_shared_layers
        writer.add_feed_forward_length(
            [c.intermediate_size * (1 if i < with_keys else 2) for i in range(c.num_hidden_layers)]
        )
    if c.attention_k_eq_v:
        writer.add_head_count_kv(
            [c.num_key_value_heads if each else full.num_key_value_heads for each in near]
        )
    writer.add_rope_dimension_count(full.head_dim)
    writer.add_rope_dimension_count_swa(c.head_dim)


def of_gpt_oss(writer: GGUFWriter, c: Any) -> None:
    """GptOssModel, in gpt_oss.py."""
    parameters(writer, c)
    writer.add_sliding_window(c.sliding_window)
    writer.add_expert_feed_forward_length(c.intermediate_size)


def of_granite(writer: GGUFWriter, c: Any) -> None:
    """GraniteModel, in granite.py."""
    of_llama(writer, c)
    writer.add_attention_scale(c.attention_multiplier)
    writer.add_embedding_scale(c.embedding_multiplier)
    writer.add_residual_scale(c.residual_multiplier)
    writer.add_logit_scale(c.logits_scaling)


def of_ministral(writer: GGUFWriter, c: Any) -> None:
    """Mistral3Model, in mistral3.py."""
    of_llama(writer, c)
    if c.model_type == "ministral3":
        writer.add_rope_scaling_yarn_log_mul(c.rope_parameters["mscale_all_dim"])
        writer.add_attn_temperature_scale(c.rope_parameters["llama_4_scaling_beta"])


def of_olmo(writer: GGUFWriter, c: Any) -> None:
    """Olmo2Model, in olmo.py."""
    parameters(writer, c)
    if c.model_type == "olmo3":
        writer.add_sliding_window(c.sliding_window)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in c.layer_types])


def of_qwen3_5(writer: GGUFWriter, c: Any) -> None:
    """Qwen3NextModel and _Qwen35MRopeMixin, in qwen.py."""
    parameters(writer, c)
    writer.add_ssm_conv_kernel(c.linear_conv_kernel_dim)
    writer.add_ssm_state_size(c.linear_key_head_dim)
    writer.add_ssm_group_count(c.linear_num_key_heads)
    writer.add_ssm_time_step_rank(c.linear_num_value_heads)
    writer.add_ssm_inner_size(c.linear_value_head_dim * c.linear_num_value_heads)
    writer.add_full_attention_interval(c.layer_types.index("full_attention") + 1)
    writer.add_rope_dimension_sections([*c.rope_parameters["mrope_section"], 0])
    writer.add_rope_dimension_count(int(c.head_dim * c.rope_parameters["partial_rotary_factor"]))


def of_qwen_vl(writer: GGUFWriter, c: Any) -> None:
    """Qwen3VLTextModel, in qwen3vl.py."""
    parameters(writer, c)
    writer.add_rope_dimension_sections([*c.rope_parameters["mrope_section"], 0])
    writer.add_num_deepstack_layers(1)


def as_it_is(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    yield name, tensor


def permuted(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    """LlamaModel.permute, in llama.py."""
    heads = {"q_proj": c.num_attention_heads, "k_proj": c.num_key_value_heads}.get(name.split(".")[-2])
    if heads:
        shape = tensor.shape
        tensor = tensor.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
    yield name, tensor


def plus_one(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    """Gemma2Model.modify_tensors, in gemma.py."""
    yield name, tensor + 1 if name.endswith("norm.weight") else tensor


def outputs_first(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    """GPT2Model.modify_tensors, in gpt2.py."""
    turned = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
    yield name, tensor.T if turned else tensor


def apart(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    """GptOssModel.modify_tensors and filter_tensors, in gpt_oss.py."""
    name, _, kind = name.partition("gate_up_proj")
    if name.endswith("sinks"):
        yield f"{name}.weight", tensor
    elif not name.endswith("experts."):
        name = name.replace("down_proj_bias", "down_proj.bias")
        whole = name.endswith("down_proj")
        yield (f"{name}.weight", tensor.swapaxes(1, 2)) if whole else (name, tensor)
    else:
        tensor, end = (tensor, "bias") if kind else (tensor.swapaxes(1, 2), "weight")
        yield f"{name}gate_proj.{end}", tensor[:, ::2]
        yield f"{name}up_proj.{end}", tensor[:, 1::2]


def with_suffixes(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    """Gemma4Model.filter_tensors and modify_tensors, in gemma.py."""
    if name.endswith("layer_scalar") or ".experts." in name:
        name += ".weight"
    for ending, kind in ((".router.scale", "ffn_gate_inp"), (".per_expert_scale", "ffn_down_exps")):
        if name.endswith(ending):
            name = f"blk.{name.split('.')[2]}.{kind}.scale"
    yield name, tensor


def tiled(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    """Qwen3NextModel and _LinearAttentionVReorderBase.modify_tensors, in qwen.py."""
    keys, each = c.linear_num_key_heads, c.linear_num_value_heads // c.linear_num_key_heads
    ours, others = name.split("linear_attn.")[-1].split(".")[0], 2 * keys * c.linear_key_head_dim

    def reordered(rows: np.ndarray) -> np.ndarray:
        width = len(rows) // (keys * each)
        return rows.reshape(keys, each, width, -1).transpose(1, 0, 2, 3).reshape(rows.shape)

    tensor = tensor.squeeze() if ours == "conv1d" else tensor
    if ours in ("in_proj_qkv", "conv1d"):
        tensor = np.concatenate([tensor[:others], reordered(tensor[others:])])
    elif ours in ("in_proj_z", "in_proj_a", "in_proj_b", "A_log", "dt_bias"):
        tensor = reordered(tensor)
    elif ours == "out_proj":
        tensor = reordered(tensor.T).T
    elif name.endswith("norm.weight") and "linear_attn" not in name:
        tensor = tensor + 1
    yield name.replace("dt_bias", "dt_proj.bias"), -np.exp(tensor) if ours == "A_log" else tensor


def text_half(name: str, tensor: np.ndarray, c: Any) -> Tensors:
    """ModelBase and TextModel.filter_tensors, in base.py."""
    if "visual" not in name:
        yield name.replace("model.language_model.", "model."), tensor


class Family(NamedTuple):
    """How one family is converted.

    Attributes:
        architecture: its name in GGUF.
        add: writes the fields.
        modified: what becomes of a tensor.
        config: values that a file can express, in place of those of the tiny config.
    """

    architecture: str
    add: Callable[[GGUFWriter, Any], None] = parameters
    modified: Callable[[str, np.ndarray, Any], Tensors] = as_it_is
    config: Mapping[str, Any] = {}


_growing = tiny.CONFIGS["ministral3"]["rope_parameters"] | {"mscale": 1.0, "mscale_all_dim": 0.5}
FAMILIES = {
    "llama": Family("llama", of_llama, permuted),
    "llama-biases": Family("llama", of_llama, permuted),
    "llama-3": Family("llama", of_llama, permuted),
    "llama-yarn": Family("llama", of_llama, permuted),
    "mistral": Family("llama", of_llama, permuted, {"sliding_window": None}),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "qwen3_moe": Family("qwen3moe", of_experts),
    "phi3": Family("phi3", of_phi),
    "gemma2": Family("gemma2", of_gemma2, plus_one, {"query_pre_attn_scalar": 8}),
    "gemma4_text": Family("gemma4", of_gemma4, with_suffixes),
    "gemma4_text-experts": Family(
        "gemma4", of_gemma4, with_suffixes, {"vocab_size_per_layer_input": tiny.VOCAB}
    ),
    "qwen3_5_text": Family("qwen35", of_qwen3_5, tiled),
    "gpt2": Family("gpt2", of_gpt2, outputs_first),
    "granite": Family("granite", of_granite, permuted),
    "smollm3": Family("smollm3", of_llama, permuted, {"no_rope_layers": None}),
    "olmo2": Family("olmo2", of_olmo),
    "olmo3": Family("olmo2", of_olmo),
    "ministral3": Family("mistral3", of_ministral, permuted, {"rope_parameters": _growing}),
    "gpt_oss": Family("gpt-oss", of_gpt_oss, apart, {"swiglu_alpha": 1.702, "swiglu_limit": 7.0}),
    "qwen3_vl": Family("qwen3vl", of_qwen_vl, text_half),
}


def config_of(family: str) -> dict[str, Any]:
    """The config.json of the model that is converted."""
    return tiny.CONFIGS[family] | FAMILIES[family].config


def write_folder(folder: Path, family: str) -> Path:
    """The Hugging Face folder that is converted."""
    tiny.save(family, folder)
    (folder / "config.json").write_text(json.dumps(config_of(family)))
    return folder


def write_family(
    file: Path,
    family: str,
    more: Mapping[str, int | list[int]] | None = None,
    bits: int = 32,
    words: Callable[[GGUFWriter], None] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """The GGUF file of a family's tiny checkpoint.

    Args:
        more: fields in place of those that the converter writes, by their names after the architecture's.
        bits: 32, or 8 for those matrices whose rows are whole blocks.
        words: writes the tokenizer; otherwise there is one that reads nothing.
        tensors: in place of others, by their names in the file.
    """
    how, c = FAMILIES[family], AutoConfig.for_model(**config_of(family)).get_text_config()
    writer = GGUFWriter(file, how.architecture)
    how.add(writer, c)
    for name, value in (more or {}).items():
        add = writer.add_array if isinstance(value, list) else writer.add_uint32
        add(f"{how.architecture}.{name}", value)
    kind = "gemma4" if how.architecture == "gemma4" else "gpt2"
    (words or partial(add_words, size=c.vocab_size, kind=kind))(writer)
    (number,) = (number for number, name in MODEL_ARCH_NAMES.items() if name == how.architecture)
    names = get_tensor_name_map(number, c.num_hidden_layers)
    for name, tensor in itertools.chain(_rope_factors(c), _with_stacks(tiny.weights(family))):
        for new, changed in how.modified(name, tensor, c):
            stored = names.get_name(new, try_suffixes=(".weight", ".bias")) or new
            changed = (tensors or {}).get(stored, changed)
            in_blocks = bits == 8 and changed.ndim > 1 and changed.shape[-1] % 32 == 0
            kind = GGMLQuantizationType.Q8_0 if in_blocks else GGMLQuantizationType.F32
            writer.add_tensor(stored, quantize(np.ascontiguousarray(changed), kind), raw_dtype=kind)
    return written(writer)


def written(writer: GGUFWriter) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert isinstance(writer.path, Path)
    return writer.path


def _with_stacks(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The matrices of a layer's experts in one tensor; Qwen2MoeModel.modify_tensors, in qwen.py."""
    stacks: dict[str, list[np.ndarray]] = {}
    for name, tensor in tensors.items():
        if re.search(r"\.experts\.\d+\.", name):
            stacks.setdefault(re.sub(r"\.experts\.\d+\.", ".experts.", name), []).append(tensor)
        else:
            yield name, tensor
    for name, matrices in stacks.items():
        yield name, np.stack(matrices)


def _rope_factors(c: Any) -> Tensors:
    """Those of LlamaModel, in llama.py, Phi3MiniModel, in phi.py, and Gemma4Model, in gemma.py."""
    rope = getattr(c, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        for length in ("long", "short"):
            yield f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], np.float32)
    if "full_attention" in rope and rope["full_attention"]["rope_type"] == "proportional":
        head_dim, part = (
            c.per_layer_config["full_attention"].head_dim,
            rope["full_attention"]["partial_rotary_factor"],
        )
        rotating = int(head_dim * part / 2)
        factors = [1.0] * rotating + [1e30] * (head_dim // 2 - rotating)
        yield "rope_freqs.weight", np.array(factors, np.float32)
    if rope.get("rope_type") != "llama3":
        return
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    factors = []
    for i in range(0, c.head_dim, 2):
        wavelength = 2 * np.pi * rope["rope_theta"] ** (i / c.head_dim)
        smooth = (context / wavelength - low) / (high - low)
        between = 1 / ((1 - smooth) / rope["factor"] + smooth)
        short, long = wavelength < context / high, wavelength > context / low
        factors.append(1.0 if short else rope["factor"] if long else between)
    yield "rope_freqs.weight", np.array(factors, np.float32)


def write_tokenizer(file: Path, architecture: str, add: Callable[[GGUFWriter], None]) -> Path:
    """A file of which only the tokenizer is read: it has no tensors."""
    c = AutoConfig.for_model("llama", hidden_size=32, num_attention_heads=4, num_key_value_heads=4)
    writer = GGUFWriter(file, architecture)
    parameters(writer, c)
    add(writer)
    return written(writer)
