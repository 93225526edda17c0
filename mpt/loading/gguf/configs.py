"""From the fields of a GGUF file to the config of the model, by architecture.

What a file does not say is what llama.cpp computes with (its ``src/models``).
"""

from __future__ import annotations

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
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from mpt.loading.gguf.common import biases, common, ends, head_dim, is_tied, layer_types, whole_heads
from mpt.loading.gguf.fields import Own
from mpt.loading.gguf.rope import rope_parameters

# The layers of those Gemmas whose attention is scaled by another number than the others': 27B of either kind.
LARGEST = {"gemma2": 46, "gemma3": 62}


def gemma2(own: Own) -> Gemma2Config:
    return Gemma2Config(
        **_gemma(own),
        **whole_heads(own),
        layer_types=layer_types(own, 2),
        attn_logit_softcapping=own.get("attn_logit_softcapping", 50.0),
        final_logit_softcapping=own.get("final_logit_softcapping", 30.0),
    )


def gemma3(own: Own) -> Gemma3TextConfig:
    near = own.get("rope.freq_base_swa", 10_000.0)
    return Gemma3TextConfig(
        **_gemma(own),
        layer_types=layer_types(own, 6),
        final_logit_softcapping=own.get("final_logit_softcapping", 0.0) or None,
        rope_parameters={
            "full_attention": whole_heads(own, theta=1_000_000.0)["rope_parameters"],
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
        tie_word_embeddings=is_tied(own),
        **ends(own),
    )


def gpt_oss(own: Own) -> GptOssConfig:
    """The file does not say that YaRN's share of a pair does not begin and end at whole pairs."""
    whole = whole_heads(own)
    return GptOssConfig(
        **common(own) | {"intermediate_size": own.get("expert_feed_forward_length")},
        layer_types=layer_types(own, 2),
        sliding_window=own.get("attention.sliding_window"),
        num_local_experts=own.get("expert_count"),
        num_experts_per_tok=own.get("expert_used_count"),
        rope_parameters={**whole["rope_parameters"], "truncate": False},
    )


def granite(own: Own) -> GraniteConfig:
    """A factor that is 0 is none."""
    own.check("rope.scaling.finetuned", True)  # otherwise nothing rotates
    return GraniteConfig(
        **common(own),
        **whole_heads(own),
        **biases(own, GraniteConfig),
        embedding_multiplier=own.get("embedding_scale", 0.0) or 1.0,
        residual_multiplier=own.get("residual_scale", 0.0) or 1.0,
        attention_multiplier=own.get("attention.scale", 0.0) or head_dim(own) ** -0.5,
        logits_scaling=own.get("logit_scale", 0.0) or 1.0,
    )


def mistral3(own: Own) -> MistralConfig | Ministral3Config:
    """Ministral 3, whose queries grow with their positions, and Mistral Small 3, whose do not."""
    if not (growth := own.get("attention.temperature_scale", 0.0)):
        return MistralConfig(**common(own), **whole_heads(own), sliding_window=None)
    rope = whole_heads(own, shared=own.get("rope.scaling.yarn_log_multiplier", 0.0))["rope_parameters"]
    return Ministral3Config(**common(own), rope_parameters={**rope, "llama_4_scaling_beta": growth})


def olmo2(own: Own) -> Olmo2Config | Olmo3Config:
    """OLMo 3 is OLMo 2 with windows, in whose layers the rotary embedding is not scaled."""
    if not (window := own.get("attention.sliding_window", 0)):
        return Olmo2Config(**common(own), **whole_heads(own))
    full = whole_heads(own)["rope_parameters"]
    near = own.get("rope.freq_base_swa", full["rope_theta"])
    return Olmo3Config(
        **common(own),
        sliding_window=window,
        layer_types=layer_types(own, 4),
        rope_parameters={
            "full_attention": full,
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        },
    )


def phi3(own: Own) -> Phi3Config:
    """The first dimensions of each head rotate."""
    found = common(own)
    part = own.get("rope.dimension_count", found["head_dim"]) / found["head_dim"]
    longest = found["max_position_embeddings"]
    return Phi3Config(
        **found,
        sliding_window=own.get("attention.sliding_window", 0) or None,
        original_max_position_embeddings=own.get("rope.scaling.original_context_length", longest),
        rope_parameters={**rope_parameters(own), "partial_rotary_factor": part},
        pad_token_id=None,
    )


def qwen3_5(own: Own) -> Qwen3_5TextConfig:
    """The layers behind the last guess later tokens; the rotary embedding is that of texts without images."""
    found, heads = common(own), own.get("ssm.time_step_rank")
    layers = found["num_hidden_layers"] - own.get("nextn_predict_layers", 0)
    every = own.get("full_attention_interval", 4)
    recurrent = own.get("attention.recurrent_layers", [(i + 1) % every > 0 for i in range(layers)])
    own.get("rope.dimension_sections")
    part = own.get("rope.dimension_count", found["head_dim"]) / found["head_dim"]
    return Qwen3_5TextConfig(
        **found | {"num_hidden_layers": layers},
        **biases(own, Qwen3_5TextConfig),
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
        **common(own),
        **whole_heads(own),
        num_experts=own.get("expert_count"),
        num_experts_per_tok=used,
        moe_intermediate_size=own.get("expert_feed_forward_length", own.get("feed_forward_length") // used),
        norm_topk_prob=True,
    )


def qwen3_vl(own: Own) -> Qwen3Config:
    """The text half of Qwen3-VL: what its fields say of images changes nothing for texts."""
    own.get("rope.dimension_sections", [])
    own.get("n_deepstack_layers", 0)
    return Qwen3Config(**common(own), **whole_heads(own))


def _gemma(own: Own) -> dict[str, Any]:
    found = common(own)
    heads, width = found["num_attention_heads"], found["hidden_size"]
    largest = found["num_hidden_layers"] == LARGEST[own.name]
    return {
        **found,
        "sliding_window": own.get("attention.sliding_window"),
        "query_pre_attn_scalar": width // heads if largest else found["head_dim"],
    }
