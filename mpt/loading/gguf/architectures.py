"""The architectures of GGUF files that are read: what fields and tensors are in a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config, SmolLM3Config

from mpt.loading.gguf.configs import (
    gemma2,
    gemma3,
    gpt2,
    gpt_oss,
    granite,
    mistral3,
    of_class,
    olmo2,
    phi3,
    qwen3_moe,
    qwen3_vl,
)
from mpt.loading.gguf.fields import Own

# The kinds of tensors, some with what follows. "{}" stands for the number of an expert, whose matrix is one
# of those in the tensor there.
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}
PHI_NAMES = NAMES | {"ffn_up": "mlp.gate_up_proj"}
GEMMA_NAMES = NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
GPT_OSS_NAMES = NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "attn_sinks.weight": "self_attn.sinks",
    "ffn_gate_inp": "mlp.router",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
}
GPT2_NAMES = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


def _halves(tensor: np.ndarray, kind: str, config: Any) -> np.ndarray:
    """Rows of queries and keys are stored in the order for interleaved rotation; ours rotates halves."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(kind)
    if heads is None:
        return tensor
    return tensor.reshape(heads, -1, 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _without_one(tensor: np.ndarray, kind: str, config: Any) -> np.ndarray:
    """A norm's weights are stored as what is multiplied with; Gemma's folders have them less one."""
    return tensor - 1 if kind.endswith("norm") else tensor


def _inputs_first(tensor: np.ndarray, kind: str, config: Any) -> np.ndarray:
    """GPT-2's folders have the matrices of the layers from input to output."""
    return tensor.T if kind in ("attn_qkv", "attn_output", "ffn_up", "ffn_down") else tensor


@dataclass(frozen=True)
class Architecture:
    """How to read the files of one architecture.

    Attributes:
        config: a function from what the file says of the model to the config.
        names: a tensor's kind there -> its name in a Hugging Face folder.
        block: how the names of a layer's tensors begin in the folder.
        arranged: a function from a tensor, its kind and the config to the tensor as the folder has it.
    """

    config: Callable[[Own], PreTrainedConfig]
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    block: str = "model.layers.{}."
    arranged: Callable[[np.ndarray, str, Any], np.ndarray] = lambda tensor, kind, config: tensor

    def renamed(self, name: str) -> str:
        """The name of a tensor in a Hugging Face folder.

        >>> ARCHITECTURES["llama"].renamed("blk.3.attn_q.weight")
        'model.layers.3.self_attn.q_proj.weight'
        """
        *block, kind, suffix = name.split(".")
        prefix = self.block.format(block[1]) if block else ""
        named = self.names.get(f"{kind}.{suffix}", f"{self.names.get(kind, kind)}.{suffix}")
        return prefix + named


ARCHITECTURES = {
    "gemma2": Architecture(gemma2, GEMMA_NAMES, arranged=_without_one),
    "gemma3": Architecture(gemma3, GEMMA_NAMES, arranged=_without_one),
    "gpt-oss": Architecture(gpt_oss, GPT_OSS_NAMES),
    "gpt2": Architecture(gpt2, GPT2_NAMES, "transformer.h.{}.", _inputs_first),
    "granite": Architecture(granite, arranged=_halves),
    "llama": Architecture(of_class(LlamaConfig), arranged=_halves),
    "mistral3": Architecture(mistral3, arranged=_halves),
    "olmo2": Architecture(olmo2, GEMMA_NAMES),
    "phi3": Architecture(phi3, PHI_NAMES),
    "qwen2": Architecture(of_class(Qwen2Config)),
    "qwen3": Architecture(of_class(Qwen3Config)),
    "qwen3moe": Architecture(qwen3_moe),
    "qwen3vl": Architecture(qwen3_vl),
    "smollm3": Architecture(of_class(SmolLM3Config, pad_token_id=None), arranged=_halves),
}
