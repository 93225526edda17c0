"""What a GGUF file says of most models alike, as it stands in the config of a Hugging Face folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig

from mpt.loading.gguf.fields import Own
from mpt.loading.gguf.rope import rope_parameters


def of_class(config: type[PreTrainedConfig], **fixed: Any) -> Callable[[Own], PreTrainedConfig]:
    """Reads the config of a family that has Llama's fields, and some with one value."""
    return lambda own: config(**common(own), **whole_heads(own), **biases(own, config), **fixed)


def common(own: Own) -> dict[str, Any]:
    """What Llama's config and those of most other families have, but for the rotary embedding."""
    heads, width = own.get("attention.head_count"), own.get("embedding_length")
    vocab, of_head = len(own.fields["tokenizer.ggml.tokens"]), head_dim(own)
    own.check("vocab_size", vocab)
    own.check("attention.value_length", of_head)
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": own.get("feed_forward_length"),
        "num_hidden_layers": own.get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": own.get("attention.head_count_kv", heads),
        "head_dim": of_head,
        "max_position_embeddings": own.get("context_length", 2048),
        "rms_norm_eps": own.get("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": is_tied(own),
        **ends(own),
    }


def head_dim(own: Own) -> int:
    """The dimensions of a head."""
    return own.get("attention.key_length", own.get("embedding_length") // own.get("attention.head_count"))


def ends(own: Own) -> dict[str, Any]:
    """The tokens that begin and end texts."""
    return {f"{end}_token_id": own.fields.get(f"tokenizer.ggml.{end}_token_id") for end in ("bos", "eos")}


def is_tied(own: Own) -> bool:
    """Whether the embedding is the head, too."""
    return "output.weight" not in own.tensors


def biases(own: Own, config: type[PreTrainedConfig]) -> dict[str, Any]:
    """Whether there are biases, for those configs that say so."""
    there = {
        "attention_bias": "blk.0.attn_output.bias" in own.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in own.tensors,
    }
    fields = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    return {name: value for name, value in there.items() if name in fields}


def whole_heads(own: Own, theta: float = 10_000.0, shared: float = 0.0) -> dict[str, Any]:
    """The rotary embedding of all dimensions of each head; see ``rope_parameters``."""
    own.check("rope.dimension_count", head_dim(own))
    return {"rope_parameters": rope_parameters(own, theta, shared)}


def layer_types(own: Own, every: int) -> list[str]:
    """Which layers have windows: those that a list names, or all but the last of ``every``."""
    pattern, layers = own.get("attention.sliding_window_pattern", every), own.get("block_count")
    if isinstance(pattern, int):
        pattern = [pattern == 0 or i % pattern < pattern - 1 for i in range(layers)]
    return ["sliding_attention" if near else "full_attention" for near in pattern]
