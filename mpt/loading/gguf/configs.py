"""From the fields of a GGUF file to the config of the model, by architecture.

What a file does not say is what llama.cpp computes with (its ``src/models``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    GraniteConfig,
    Ministral3Config,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    Phi3Config,
    PreTrainedConfig,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from mpt.loading.gguf.fields import Own
from mpt.loading.gguf.rope import rope_parameters

# The layers of those Gemmas whose attention is scaled by another number than the others': 27B of either kind.
LARGEST = {"gemma2": 46, "gemma3": 62}


def of_class(config: type[PreTrainedConfig], **fixed: Any) -> Callable[[Own], PreTrainedConfig]:
    """Reads the config of a family that has Llama's fields, and some with one value."""
    return lambda own: config(**_common(own), **_whole_heads(own), **_biases(own, config), **fixed)


def gemma2(own: Own) -> Gemma2Config:
    return Gemma2Config(
        **_gemma(own),
        **_whole_heads(own),
        layer_types=_layer_types(own, 2),
        attn_logit_softcapping=own.get("attn_logit_softcapping", 50.0),
        final_logit_softcapping=own.get("final_logit_softcapping", 30.0),
    )


def gemma3(own: Own) -> Gemma3TextConfig:
    near = own.get("rope.freq_base_swa", 10_000.0)
    return Gemma3TextConfig(
        **_gemma(own),
        layer_types=_layer_types(own, 6),
        final_logit_softcapping=own.get("final_logit_softcapping", 0.0) or None,
        rope_parameters={
            "full_attention": _whole_heads(own, theta=1_000_000.0)["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        },
    )


def gpt2(own: Own) -> GPT2Config:
    return GPT2Config(
        vocab_size=len(own.fields["tokenizer.ggml.tokens"]),
        n_positions=own.get("context_length"),
        n_embd=own.get("embedding_length"),
        n_layer=own.get("block_count"),
        n_head=own.get("attention.head_count"),
        n_inner=own.get("feed_forward_length"),
        layer_norm_epsilon=own.get("attention.layer_norm_epsilon"),
        tie_word_embeddings=_is_tied(own),
        **_ends(own),
    )


def gpt_oss(own: Own) -> GptOssConfig:
    """The file does not say that YaRN's share of a pair does not begin and end at whole pairs."""
    whole = _whole_heads(own)
    return GptOssConfig(
        **_common(own) | {"intermediate_size": own.get("expert_feed_forward_length")},
        layer_types=_layer_types(own, 2),
        sliding_window=own.get("attention.sliding_window"),
        num_local_experts=own.get("expert_count"),
        num_experts_per_tok=own.get("expert_used_count"),
        rope_parameters={**whole["rope_parameters"], "truncate": False},
    )


def granite(own: Own) -> GraniteConfig:
    """A factor that is 0 is none."""
    own.check("rope.scaling.finetuned", True)  # otherwise nothing rotates
    return GraniteConfig(
        **_common(own),
        **_whole_heads(own),
        **_biases(own, GraniteConfig),
        embedding_multiplier=own.get("embedding_scale", 0.0) or 1.0,
        residual_multiplier=own.get("residual_scale", 0.0) or 1.0,
        attention_multiplier=own.get("attention.scale", 0.0) or _head_dim(own) ** -0.5,
        logits_scaling=own.get("logit_scale", 0.0) or 1.0,
    )


def mistral3(own: Own) -> MistralConfig | Ministral3Config:
    """Ministral 3, whose queries grow with their positions, and Mistral Small 3, whose do not."""
    if not (growth := own.get("attention.temperature_scale", 0.0)):
        return MistralConfig(**_common(own), **_whole_heads(own), sliding_window=None)
    rope = _whole_heads(own, shared=own.get("rope.scaling.yarn_log_multiplier", 0.0))["rope_parameters"]
    return Ministral3Config(**_common(own), rope_parameters={**rope, "llama_4_scaling_beta": growth})


def olmo2(own: Own) -> Olmo2Config | Olmo3Config:
    """OLMo 3 is OLMo 2 with windows, in whose layers the rotary embedding is not scaled."""
    if not (window := own.get("attention.sliding_window", 0)):
        return Olmo2Config(**_common(own), **_whole_heads(own))
    full = _whole_heads(own)["rope_parameters"]
    near = own.get("rope.freq_base_swa", full["rope_theta"])
    return Olmo3Config(
        **_common(own),
        sliding_window=window,
        layer_types=_layer_types(own, 4),
        rope_parameters={
            "full_attention": full,
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        },
    )


def phi3(own: Own) -> Phi3Config:
    """The first dimensions of each head rotate."""
    common = _common(own)
    part = own.get("rope.dimension_count", common["head_dim"]) / common["head_dim"]
    longest = common["max_position_embeddings"]
    return Phi3Config(
        **common,
        sliding_window=own.get("attention.sliding_window", 0) or None,
        original_max_position_embeddings=own.get("rope.scaling.original_context_length", longest),
        rope_parameters={**rope_parameters(own), "partial_rotary_factor": part},
        pad_token_id=None,
    )


def qwen3_5(own: Own) -> Qwen3_5TextConfig:
    """The layers behind the last guess later tokens; the rotary embedding is that of texts without images."""
    common, heads = _common(own), own.get("ssm.time_step_rank")
    layers = common["num_hidden_layers"] - own.get("nextn_predict_layers", 0)
    every = own.get("full_attention_interval", 4)
    recurrent = own.get("attention.recurrent_layers", [(i + 1) % every > 0 for i in range(layers)])
    own.get("rope.dimension_sections")
    part = own.get("rope.dimension_count", common["head_dim"]) / common["head_dim"]
    return Qwen3_5TextConfig(
        **common | {"num_hidden_layers": layers},
        **_biases(own, Qwen3_5TextConfig),
        layer_types=["linear_attention" if each else "full_attention" for each in recurrent[:layers]],
        linear_conv_kernel_dim=own.get("ssm.conv_kernel"),
        linear_key_head_dim=own.get("ssm.state_size"),
        linear_num_key_heads=own.get("ssm.group_count"),
        linear_num_value_heads=heads,
        linear_value_head_dim=own.get("ssm.inner_size") // heads,
        rope_parameters={**rope_parameters(own), "partial_rotary_factor": part},
    )


def qwen3_moe(own: Own) -> Qwen3MoeConfig:
    """The weights of the chosen experts add up to one."""
    used = own.get("expert_used_count")
    return Qwen3MoeConfig(
        **_common(own),
        **_whole_heads(own),
        num_experts=own.get("expert_count"),
        num_experts_per_tok=used,
        moe_intermediate_size=own.get("expert_feed_forward_length", own.get("feed_forward_length") // used),
        norm_topk_prob=True,
    )


def qwen3_vl(own: Own) -> Qwen3Config:
    """The text half of Qwen3-VL: what its fields say of images changes nothing for texts."""
    own.get("rope.dimension_sections", [])
    own.get("n_deepstack_layers", 0)
    return Qwen3Config(**_common(own), **_whole_heads(own))


def _common(own: Own) -> dict[str, Any]:
    """What Llama's config and those of most other families have, but for the rotary embedding."""
    heads, width = own.get("attention.head_count"), own.get("embedding_length")
    vocab, head_dim = len(own.fields["tokenizer.ggml.tokens"]), _head_dim(own)
    own.check("vocab_size", vocab)
    own.check("attention.value_length", head_dim)
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": own.get("feed_forward_length"),
        "num_hidden_layers": own.get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": own.get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": own.get("context_length", 2048),
        "rms_norm_eps": own.get("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": _is_tied(own),
        **_ends(own),
    }


def _head_dim(own: Own) -> int:
    return own.get("attention.key_length", own.get("embedding_length") // own.get("attention.head_count"))


def _ends(own: Own) -> dict[str, Any]:
    """The tokens that begin and end texts."""
    return {f"{end}_token_id": own.fields.get(f"tokenizer.ggml.{end}_token_id") for end in ("bos", "eos")}


def _is_tied(own: Own) -> bool:
    return "output.weight" not in own.tensors


def _biases(own: Own, config: type[PreTrainedConfig]) -> dict[str, Any]:
    """Whether there are biases, for those configs that say so."""
    there = {
        "attention_bias": "blk.0.attn_output.bias" in own.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in own.tensors,
    }
    fields = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    return {name: value for name, value in there.items() if name in fields}


def _whole_heads(own: Own, theta: float = 10_000.0, shared: float = 0.0) -> dict[str, Any]:
    """The rotary embedding of all dimensions of each head; see ``rope_parameters``."""
    own.check("rope.dimension_count", _head_dim(own))
    return {"rope_parameters": rope_parameters(own, theta, shared)}


def _gemma(own: Own) -> dict[str, Any]:
    common = _common(own)
    heads, width = common["num_attention_heads"], common["hidden_size"]
    largest = common["num_hidden_layers"] == LARGEST[own.name]
    return {
        **common,
        "sliding_window": own.get("attention.sliding_window"),
        "query_pre_attn_scalar": width // heads if largest else common["head_dim"],
    }


def _layer_types(own: Own, every: int) -> list[str]:
    """Which layers have windows: those that a list names, or all but the last of ``every``."""
    pattern, layers = own.get("attention.sliding_window_pattern", every), own.get("block_count")
    if isinstance(pattern, int):
        pattern = [pattern == 0 or i % pattern < pattern - 1 for i in range(layers)]
    return ["sliding_attention" if near else "full_attention" for near in pattern]
