"""The architectures of GGUF files that are read: what fields and tensors are in a Hugging Face folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config, SmolLM3Config

from mpt.loading.gguf.common import of_class
from mpt.loading.gguf.configs import (
    gemma2,
    gemma3,
    gpt2,
    gpt_oss,
    granite,
    mistral3,
    olmo2,
    phi3,
    qwen3_5,
    qwen3_moe,
    qwen3_vl,
)
from mpt.loading.gguf.fields import Own
from mpt.loading.gguf.gemma4 import gemma4

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
GEMMA4_NAMES = GEMMA_NAMES | {
    "per_layer_token_embd": "model.embed_tokens_per_layer",
    "per_layer_model_proj": "model.per_layer_model_projection",
    "per_layer_proj_norm": "model.per_layer_projection_norm",
    "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection",
    "post_norm": "post_per_layer_input_norm",
    "layer_output_scale.weight": "layer_scalar",
    "ffn_gate_inp": "router.proj",
    "ffn_gate_inp.scale": "router.scale",
    "ffn_gate_up_exps.weight": "experts.gate_up_proj",
    "ffn_down_exps.weight": "experts.down_proj",
    "ffn_down_exps.scale": "router.per_expert_scale",
    "post_ffw_norm_1": "post_feedforward_layernorm_1",
    "post_ffw_norm_2": "post_feedforward_layernorm_2",
    "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
}
GPT_OSS_NAMES = NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "attn_sinks.weight": "self_attn.sinks",
    "ffn_gate_inp": "mlp.router",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
}
QWEN3_5_NAMES = NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_beta": "linear_attn.in_proj_b",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
    "ssm_a": "linear_attn.A_log",
    "ssm_dt.bias": "linear_attn.dt_bias",
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


def _of_qwen3_5(tensor: np.ndarray, kind: str, config: Any) -> np.ndarray:
    """Value heads are stored one of each key head in turn, ours by key heads; decays are no logarithms."""
    keys, heads = config.linear_num_key_heads, config.linear_num_value_heads

    def by_key(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(heads // keys, keys, -1, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)

    if kind == "ssm_a":
        return by_key(np.log(-tensor))
    if kind in ("attn_gate", "ssm_alpha", "ssm_beta", "ssm_dt"):
        return by_key(tensor)
    if kind == "ssm_out":
        return by_key(tensor.T).T
    if kind in ("attn_qkv", "ssm_conv1d"):
        others = 2 * keys * config.linear_key_head_dim
        tensor = np.concatenate([tensor[:others], by_key(tensor[others:])])
        return tensor[:, None] if kind == "ssm_conv1d" else tensor
    return tensor if kind == "ssm_norm" else _without_one(tensor, kind, config)


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

    def renamed(self, name: str, layers: int) -> str:
        """The name of a tensor in a Hugging Face folder, of a model with so many layers.

        >>> ARCHITECTURES["llama"].renamed("blk.3.attn_q.weight", 4)
        'model.layers.3.self_attn.q_proj.weight'
        """
        block, kind, suffix = parts(name)
        named = self.names.get(kind + suffix, self.names.get(kind, kind) + suffix)
        if block is None:
            return named
        return self.block.format(block) + named if block < layers else f"mtp.{block - layers}.{named}"


def parts(name: str) -> tuple[int | None, str, str]:
    """The layer, the kind, and what follows, of a tensor's name in the file.

    >>> parts("blk.3.attn_q.weight"), parts("blk.3.ssm_a")
    ((3, 'attn_q', '.weight'), (3, 'ssm_a', ''))
    """
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?([^.]*)(.*)", name, re.DOTALL)
    assert found  # anything does
    return int(found[1]) if found[1] else None, found[2], found[3]


ARCHITECTURES = {
    "gemma2": Architecture(gemma2, GEMMA_NAMES, arranged=_without_one),
    "gemma3": Architecture(gemma3, GEMMA_NAMES, arranged=_without_one),
    "gemma4": Architecture(gemma4, GEMMA4_NAMES),
    "gpt-oss": Architecture(gpt_oss, GPT_OSS_NAMES),
    "gpt2": Architecture(gpt2, GPT2_NAMES, "transformer.h.{}.", _inputs_first),
    "granite": Architecture(granite, arranged=_halves),
    "llama": Architecture(of_class(LlamaConfig), arranged=_halves),
    "mistral3": Architecture(mistral3, arranged=_halves),
    "olmo2": Architecture(olmo2, GEMMA_NAMES),
    "phi3": Architecture(phi3, PHI_NAMES),
    "qwen2": Architecture(of_class(Qwen2Config)),
    "qwen35": Architecture(qwen3_5, QWEN3_5_NAMES, arranged=_of_qwen3_5),
    "qwen3": Architecture(of_class(Qwen3Config)),
    "qwen3moe": Architecture(qwen3_moe),
    "qwen3vl": Architecture(qwen3_vl),
    "smollm3": Architecture(of_class(SmolLM3Config, pad_token_id=None), arranged=_halves),
}
