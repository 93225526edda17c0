"""The config of Gemma 4, whose fields have other values for its layers with windows than for the others."""

from __future__ import annotations

from typing import Any

from transformers import Gemma4TextConfig

from mpt.loading.gguf.common import common, layer_types
from mpt.loading.gguf.fields import Own
from mpt.loading.gguf.rope import proportional

NEAR, FULL = "sliding_attention", "full_attention"


def gemma4(own: Own) -> Gemma4TextConfig:
    """Per-layer inputs have as many rows as the vocabulary; values that are keys have no tensor."""
    found = common(own)  # its head's dimensions are those of the layers without windows
    own.get("attention.sliding_window_pattern")
    kinds, borrowers = layer_types(own, 0), own.get("attention.shared_kv_layers", 0)
    with_keys = [i for i, kind in enumerate(kinds) if kind == FULL and i < len(kinds) - borrowers]
    kv_heads = _by_kind(own, "attention.head_count_kv", kinds)
    return Gemma4TextConfig(
        **found
        | {"head_dim": own.get("attention.key_length_swa"), "num_key_value_heads": kv_heads[NEAR]}
        | _feed_forward(own, len(kinds) - borrowers),
        **_experts(own),
        **{"global_head_dim": found["head_dim"], "num_global_key_value_heads": kv_heads[FULL]},
        layer_types=kinds,
        sliding_window=own.get("attention.sliding_window"),
        attention_k_eq_v=not any(f"blk.{i}.attn_v.weight" in own.tensors for i in with_keys),
        num_kv_shared_layers=borrowers,
        hidden_size_per_layer_input=own.get("embedding_length_per_layer_input", 0),
        vocab_size_per_layer_input=found["vocab_size"],
        pad_token_id=own.fields.get("tokenizer.ggml.padding_token_id", 0),
        final_logit_softcapping=own.get("final_logit_softcapping", 0.0) or None,
        rope_parameters=_ropes(own, found["head_dim"]),
    )


def _ropes(own: Own, head_dim: int) -> dict[str, Any]:
    near = own.get("attention.key_length_swa")
    own.check("attention.value_length_swa", near)
    own.check("rope.dimension_count", head_dim)
    own.check("rope.dimension_count_swa", near)
    theta = own.get("rope.freq_base_swa", 10_000.0)
    return {FULL: proportional(own), NEAR: {"rope_type": "default", "rope_theta": theta}}


def _by_kind(own: Own, key: str, kinds: list[str]) -> dict[str, int]:
    """A field's value in layers of each kind: it is one number, or one for each layer."""
    value = own.get(key)
    if isinstance(value, int):
        return {NEAR: value, FULL: value}
    found = dict(zip(kinds, value))
    own.check(key, [found[kind] for kind in kinds])
    return {NEAR: found[FULL], **found}


def _feed_forward(own: Own, with_keys: int) -> dict[str, Any]:
    """Layers that read the keys of others may have twice the units."""
    units = own.get("feed_forward_length")
    if isinstance(units, int):
        return {"intermediate_size": units}
    wide = units[-1] != units[0]
    own.check(
        "feed_forward_length", [units[0] * (2 if wide and i >= with_keys else 1) for i in range(len(units))]
    )
    return {"intermediate_size": units[0], "use_double_wide_mlp": wide}


def _experts(own: Own) -> dict[str, Any]:
    if "blk.0.ffn_gate_inp.weight" not in own.tensors:
        return {}
    return {
        "enable_moe_block": True,
        "num_experts": own.get("expert_count"),
        "top_k_experts": own.get("expert_used_count"),
        "moe_intermediate_size": own.get("expert_feed_forward_length"),
    }
