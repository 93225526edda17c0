"""The architectures of GGUF files that are read: what their fields and tensors are in a Hugging Face folder.

In the names of fields, ``{}`` stands for the architecture's name, with which most of them begin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from transformers import Gemma3TextConfig, LlamaConfig, PreTrainedConfig

from mpt.errors import UserError
from mpt.loading.gguf_rope import rope_parameters

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA_NAMES = NAMES | {
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}

# The values with which mpt computes.
FIXED: dict[str, tuple[Any, ...]] = {
    "general.type": ("model",),
    "{}.attention.causal": (True,),
    "{}.attention.scale": (0.0,),
    "{}.attention.sliding_window": (0,),
    "{}.expert_count": (0,),
    "{}.expert_used_count": (0,),
    "{}.logit_scale": (0.0, 1.0),
    "{}.tensor_data_layout": ("Meta AI original pth",),
    "split.count": (0, 1),
    "split.no": (0,),
    "tokenizer.ggml.add_space_prefix": (False,),
    "tokenizer.ggml.remove_extra_whitespaces": (False,),
}
GEMMA_LARGEST = 62  # layers of the 27B model, whose attention is scaled by another number than the others'


class Own(NamedTuple):
    """The fields that begin with the architecture's name.

    Attributes:
        name: the architecture.
        fields: all fields of the file.
        factors: its tensors that scale the rotary embedding.
    """

    name: str
    fields: Mapping[str, Any]
    factors: Mapping[str, np.ndarray]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a field; one without a default must be there."""
        value = self.fields.get(f"{self.name}.{key}", default)
        if value is None:
            raise UserError(f"no field {self.name}.{key}; fetch it again")
        return value


@dataclass(frozen=True)
class Architecture:
    """How to read the files of one architecture.

    Attributes:
        names: a tensor's kind there -> its name in a Hugging Face folder.
        config: a function from the architecture's fields, and arguments that all configs have, to the config.
        tensor: a function from a tensor, its kind and the config to the tensor as the folder has it.
        fixed: the values that a field may have, where it may have few.
    """

    names: Mapping[str, str]
    config: Callable[..., PreTrainedConfig]
    tensor: Callable[[np.ndarray, str, Any], np.ndarray]
    fixed: Mapping[str, tuple[Any, ...]]


def config_of(
    name: str, fields: Mapping[str, Any], factors: Mapping[str, np.ndarray], tied: bool
) -> PreTrainedConfig:
    """The config of a file.

    Args:
        name: the architecture, one of ``ARCHITECTURES``.
        factors: the file's tensors that scale the rotary embedding, see ``rope_parameters``.
        tied: whether the embedding is the head, too.

    Raises:
        UserError: a field is missing, or has a value that mpt does not compute with.
    """

    own = Own(name, fields, factors)
    get = own.get
    heads, width = get("attention.head_count"), get("embedding_length")
    config = ARCHITECTURES[name].config(
        own,
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=width,
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=get("attention.head_count_kv", heads),
        head_dim=get("attention.key_length", width // heads),
        max_position_embeddings=get("context_length", 2048),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        tie_word_embeddings=tied,
        bos_token_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=fields.get("tokenizer.ggml.eos_token_id"),
    )
    for key, ours in {
        "vocab_size": config.vocab_size,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
    }.items():
        if (theirs := get(key, ours)) != ours:
            raise UserError(f"{name}.{key} is {theirs}, and mpt computes with {ours} here")
    return config


def _llama(own: Own, **fields: Any) -> LlamaConfig:
    return LlamaConfig(rope_parameters=rope_parameters(own.name, own.fields, own.factors), **fields)


def _gemma3(own: Own, **fields: Any) -> Gemma3TextConfig:
    """What the file does not say is what llama.cpp computes with: every sixth layer sees all positions."""
    large = fields["num_hidden_layers"] == GEMMA_LARGEST
    cap, near = own.get("final_logit_softcapping", 0.0), own.get("rope.freq_base_swa", 10_000.0)
    return Gemma3TextConfig(
        rope_parameters={
            "full_attention": rope_parameters(own.name, own.fields, own.factors, theta=1_000_000.0),
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        },
        sliding_window=own.get("attention.sliding_window"),
        query_pre_attn_scalar=(
            fields["hidden_size"] // fields["num_attention_heads"] if large else fields["head_dim"]
        ),
        final_logit_softcapping=cap or None,
        **fields,
    )


def _halves(tensor: np.ndarray, kind: str, config: LlamaConfig) -> np.ndarray:
    """Rows of queries and keys are stored in the order for interleaved rotation; ours rotates halves."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(kind)
    if heads is None:
        return tensor
    rows, columns = tensor.shape
    return tensor.reshape(heads, -1, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _without_one(tensor: np.ndarray, kind: str, config: Gemma3TextConfig) -> np.ndarray:
    """A norm's weights are stored as what is multiplied with; Gemma's folders have them less one."""
    return tensor - 1 if kind.endswith("norm") else tensor


def _but(fixed: Mapping[str, tuple[Any, ...]], *names: str) -> dict[str, tuple[Any, ...]]:
    return {name: values for name, values in fixed.items() if name not in names}


ARCHITECTURES = {
    "llama": Architecture(NAMES, _llama, _halves, FIXED),
    "gemma3": Architecture(GEMMA_NAMES, _gemma3, _without_one, _but(FIXED, "{}.attention.sliding_window")),
}
