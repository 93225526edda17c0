"""Tiny random checkpoints of every family, made without torch.

What golden files were made of them holds only as long as nothing here changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from golden import FOLDER, SEEDS, normals
from mpt.data import batches

VOCAB, WIDTH = 48, 32

_headless = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_decoder = {**_headless, "head_dim": 8}
_t5 = {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
    "eos_token_id": 2,
}
_rope3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

_yarn = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 2.0,
    "beta_slow": 0.5,
}
_linear = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}
_longrope = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0, 1.5, 2.0, 4.0],
    "long_factor": [1.0, 4.0, 8.0, 16.0],
}

_gemma4_ropes = {
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 100.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
}

DECODERS = {
    "llama": {"model_type": "llama", **_decoder},
    "llama-3": {"model_type": "llama", **_decoder, "rope_parameters": _rope3, "tie_word_embeddings": True},
    "llama-biases": {"model_type": "llama", **_decoder, "attention_bias": True, "mlp_bias": True},
    "llama-yarn": {"model_type": "llama", **_decoder, "rope_parameters": _yarn},
    "qwen3-yarn": {
        "model_type": "qwen3",
        **_decoder,
        "rope_parameters": {**_yarn, "mscale": 2.0, "mscale_all_dim": 0.5, "truncate": False},
    },
    "llama-longrope": {
        "model_type": "llama",
        **_decoder,
        "rope_parameters": _longrope,
        "max_position_embeddings": 256,
    },
    "mistral": {"model_type": "mistral", **_decoder, "sliding_window": 5},
    "qwen2": {"model_type": "qwen2", **_headless},
    "qwen2-window": {
        "model_type": "qwen2",
        **_headless,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 2,
    },
    "qwen3": {"model_type": "qwen3", **_decoder, "head_dim": 12},
    "smollm3": {"model_type": "smollm3", **_headless, "no_rope_layers": [1, 0, 1, 1]},
    "granite": {
        "model_type": "granite",
        **_headless,
        "embedding_multiplier": 1.5,
        "residual_multiplier": 0.7,
        "attention_multiplier": 0.2,
        "logits_scaling": 3.0,
    },
    "olmo2": {"model_type": "olmo2", **_headless},
    "olmo3": {
        "model_type": "olmo3",
        **_headless,
        "sliding_window": 5,
        "rope_parameters": {
            "full_attention": _yarn,
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    },
    "phi3": {
        "model_type": "phi3",
        **_headless,
        "rope_parameters": {
            **_longrope,
            "partial_rotary_factor": 0.5,
            "short_factor": [1.0, 3.0],
            "long_factor": [2.0, 9.0],
        },
        "original_max_position_embeddings": 64,
        "max_position_embeddings": 256,
        "sliding_window": 7,
    },
    "ministral3": {
        "model_type": "ministral3",
        **_decoder,
        "rope_parameters": {**_yarn, "original_max_position_embeddings": 8, "llama_4_scaling_beta": 0.3},
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        **_decoder,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "norm_topk_prob": True,
    },
    "qwen3_5_text": {
        "model_type": "qwen3_5_text",
        **_decoder,
        "num_hidden_layers": 6,
        "layer_types": ["linear_attention", "linear_attention", "full_attention"] * 2,
        "rms_norm_eps": 0.01,  # or the norm of a little output would show its rounding
        "linear_conv_kernel_dim": 3,
        "linear_key_head_dim": 6,
        "linear_value_head_dim": 6,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 100.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [1, 1, 0],
        },
    },
    "gpt_oss": {
        "model_type": "gpt_oss",
        **_decoder,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "sliding_window": 5,
        "swiglu_alpha": 1.5,
        "swiglu_limit": 0.8,
        "rope_parameters": {**_yarn, "truncate": False},
    },
    "gemma2": {
        "model_type": "gemma2",
        **_decoder,
        "sliding_window": 5,
        "query_pre_attn_scalar": 6,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 2.0,
    },
    "gemma3_text": {
        "model_type": "gemma3_text",
        **_decoder,
        "sliding_window": 5,
        "query_pre_attn_scalar": 6,
        "sliding_window_pattern": 3,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
        },
    },
    "gemma4_text": {
        "model_type": "gemma4_text",
        **_decoder,
        "rms_norm_eps": 0.01,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "sliding_window": 5,
        "global_head_dim": 12,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
        "hidden_size_per_layer_input": 6,
        "vocab_size_per_layer_input": VOCAB,
        "final_logit_softcapping": 2.0,
        "rope_parameters": _gemma4_ropes,
    },
    "gemma4_text-experts": {
        "model_type": "gemma4_text",
        **_decoder,
        "rms_norm_eps": 0.01,
        "enable_moe_block": True,
        "num_experts": 5,
        "top_k_experts": 2,
        "moe_intermediate_size": 12,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 5,
        "global_head_dim": 12,
        "hidden_size_per_layer_input": 0,
        "rope_parameters": _gemma4_ropes,
    },
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": VOCAB,
        "n_embd": WIDTH,
        "n_layer": 4,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}

_vision = {
    "hidden_size": 8,  # thrice this must not be VOCAB, by which peft finds the embedding
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}

# What reads images too, with its text half; the tensors of images are as random as the others.
MULTIMODAL = {
    "gemma3": {
        "model_type": "gemma3",
        "text_config": DECODERS["gemma3_text"],
        "vision_config": {"model_type": "siglip_vision_model", **_vision},
        "mm_tokens_per_image": 4,
    },
    "gemma4": {
        "model_type": "gemma4",
        "text_config": DECODERS["gemma4_text"],
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 8,
            "intermediate_size": 12,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 4,
            "position_embedding_size": 16,
        },
        **{f"{name}_token_id": 43 + i for i, name in enumerate(("image", "video", "audio"))},
    },
    "mistral3": {
        "model_type": "mistral3",
        "text_config": DECODERS["ministral3"],
        "vision_config": {"model_type": "pixtral", **_vision, "head_dim": 4},
        "tie_word_embeddings": False,
    },
    "qwen3_5": {
        "model_type": "qwen3_5",
        "text_config": DECODERS["qwen3_5_text"],
        "vision_config": {
            "model_type": "qwen3_5_vision",
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 12,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 16,
        },
        "tie_word_embeddings": True,
    },
    "qwen3_vl": {
        "model_type": "qwen3_vl",
        "text_config": {
            **_decoder,
            "model_type": "qwen3_vl_text",
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 1, 1]},
        },
        "vision_config": {
            "model_type": "qwen3_vl_vision",
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 12,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        "tie_word_embeddings": True,
    },
}
DECODERS |= MULTIMODAL

_t5gemma2_ropes = DECODERS["gemma3_text"]["rope_parameters"]
_gemma_decoder = {
    **_decoder,
    "num_hidden_layers": 3,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "sliding_window": 3,
    "query_pre_attn_scalar": 6,
}
_gemma_encoder = {
    **_gemma_decoder,
    "num_hidden_layers": 2,
    "layer_types": ["full_attention", "sliding_attention"],
    "sliding_window": 4,
}
_caps = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0}

ENCODER_DECODERS = {
    "t5-1.0": {"model_type": "t5", **_t5},
    "t5-1.1": {"model_type": "t5", **_t5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "byt5": {"model_type": "t5", **_t5, "num_layers": 5, "feed_forward_proj": "gated-gelu"},
    "mt5": {"model_type": "mt5", **_t5},
    "umt5": {"model_type": "umt5", **_t5},
    "t5gemma": {
        "model_type": "t5gemma",
        "vocab_size": VOCAB,
        "encoder": {**_gemma_encoder, **_caps, "num_key_value_heads": 4, "rope_parameters": _linear},
        "decoder": {**_gemma_decoder, **_caps, "intermediate_size": 24},
    },
    # As in 9b-2b: the decoder is narrower.
    "t5gemma-narrow": {
        "model_type": "t5gemma",
        "vocab_size": VOCAB,
        "encoder": {**_gemma_encoder, **_caps, "attention_bias": True},
        "decoder": {
            **_gemma_decoder,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "hidden_size": 24,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 12,
            "attention_bias": True,
        },
        "tie_word_embeddings": False,
    },
    "t5gemma2": {
        "model_type": "t5gemma2",
        "encoder": {
            "text_config": {**_gemma_encoder, "rope_parameters": _t5gemma2_ropes},
            "vision_config": {"model_type": "siglip_vision_model", **_vision},
            "mm_tokens_per_image": 4,
            "eoi_token_index": 40,  # which a text and a target have
        },
        "decoder": {
            **_gemma_decoder,
            "rope_parameters": _t5gemma2_ropes,
            "intermediate_size": 24,
            "final_logit_softcapping": 2.0,
        },
        "image_token_index": 43,
    },
}

# Those whose head the config may tie but whose checkpoints carry one of its own.
UNTIED = {"t5-1.1", "mt5"}

# Those without a width that prompts of both stacks could have.
ONE_SIDED = {"t5gemma-narrow"}

# For tests that train on texts, with the tokenizer of toys.py.
_texts = {"vocab_size": 283, "eos_token_id": 0, "pad_token_id": 1}
TOYS = {
    "toy-llama": {
        "model_type": "llama",
        **_texts,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "toy-t5": {
        "model_type": "t5",
        **_texts,
        "d_model": WIDTH,
        "d_kv": 8,
        "d_ff": 40,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 1,
    },
}

CONFIGS = DECODERS | ENCODER_DECODERS | TOYS


def save(family: str, folder: Path, tensors: Mapping[str, np.ndarray] | None = None) -> Path:
    """A checkpoint in ``folder``, of its family's own weights or of others, with a tokenizer of words."""
    return write(folder, family, tokenizer(), weights(family) if tensors is None else tensors)


def write(
    folder: Path, family: str, tokenizer: PreTrainedTokenizerBase, tensors: Mapping[str, np.ndarray]
) -> Path:
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIGS[family]))
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
    return folder


def weights(family: str, seed: int = SEEDS["weights"]) -> dict[str, np.ndarray]:
    """Every weight random, norms and biases too."""
    drawn = normals(seed, shapes(family))
    return {name: _placed(family, name, value) for name, value in drawn.items()}


def _placed(family: str, name: str, drawn: np.ndarray) -> np.ndarray:
    """A standard normal weight, moved to where such weights lie."""
    if drawn.ndim == 1:  # a bias or a norm; of some families, norms are written less one
        less = family.startswith(("gemma2", "gemma3", "qwen3_5", "t5gemma")) and "linear_attn" not in name
        return 0.3 * drawn + np.float32(name.endswith((".weight", "layer_scalar")) and not less)
    if "shared" in name or "relative" in name:
        return drawn
    return np.float32(0.1 if family in TOYS else 0.2) * drawn


def shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Of a checkpoint's tensors, by the names that transformers gives them."""
    return unstacked(json.loads((FOLDER / "facts.json").read_text())["models"][family]["tensors"])


def stacked(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """Writes a stack's tensors as one: "a.0.b" and "a.1.b" of (3, 4) are "a.*.b" of [2, 3, 4].

    Those of stacks whose layers are of several kinds stay apart: "a.1.b" of [1, 3, 4].
    """
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        groups.setdefault(re.sub(r"\.\d+\.", ".*.", name, count=1), {})[name] = shape
    found: dict[str, list[int]] = {}
    for pattern, group in groups.items():
        together = {pattern: [len(group), *next(iter(group.values()))]}
        apart = {name: [1, *shape] for name, shape in group.items()}
        found |= together if unstacked(together) == group else apart
    return found


def unstacked(stacks: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    """The inverse of ``stacked``."""
    return {
        pattern.replace("*", str(i)): tuple(shape)
        for pattern, (layers, *shape) in stacks.items()
        for i in range(layers)
    }


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w3"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w2", pad_token="w0", unk_token="w3")


def collate(*rows_and_prompts) -> batches.Batch:
    """A batch as a step sees it: JAX's arrays."""
    return jax.tree.map(jnp.asarray, batches.collate(*rows_and_prompts))
