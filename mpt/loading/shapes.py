"""The shapes of well-known models, from their public config.json files, for plans without weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from transformers import AutoConfig, PreTrainedConfig

from mpt.errors import UserError, nearest
from mpt.loading.config_file import read_config, read_json
from mpt.loading.families import FAMILIES
from mpt.loading.families.tensor_names import HEAD
from mpt.loading.gguf.file import open_gguf
from mpt.loading.hf import open_tensors
from mpt.loading.packaged import PACKAGED, packaged_file_here
from mpt.models.backbone import Backbone
from mpt.models.quantize import quantize


def _t5(d_model: int, layers: int, heads: int, d_kv: int, d_ff: int, **rest: Any) -> dict[str, Any]:
    return {
        "model_type": "t5",
        "vocab_size": 32128,
        "d_model": d_model,
        "num_layers": layers,
        "num_heads": heads,
        "d_kv": d_kv,
        "d_ff": d_ff,
        **rest,
    }


def _llama(d_model: int, layers: int, heads: int, d_ff: int, **rest: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": d_model,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": d_ff,
        **rest,
    }


def _llama3(d_model: int, layers: int, d_ff: int, factor: float, **rest: Any) -> dict[str, Any]:
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    shape = _llama(d_model, layers, 32, d_ff, vocab_size=128256, num_key_value_heads=8)
    return shape | {"rope_parameters": rope, "max_position_embeddings": 131072, **rest}


def _gpt_oss(layers: int, experts: int) -> dict[str, Any]:
    rope = {"rope_type": "yarn", "rope_theta": 150_000.0, "factor": 32.0, "truncate": False}
    rope |= {"beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 4096}
    return {
        "model_type": "gpt_oss",
        "num_hidden_layers": layers,
        "num_local_experts": experts,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
    }


_V1_1: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
_T5_1_1 = {
    "small": _t5(512, 8, 6, 64, 1024, **_V1_1),
    "base": _t5(768, 12, 12, 64, 2048, **_V1_1),
    "large": _t5(1024, 24, 16, 64, 2816, **_V1_1),
    "xl": _t5(2048, 24, 32, 64, 5120, **_V1_1),
    "xxl": _t5(4096, 24, 64, 64, 10240, **_V1_1),
}

_T5GEMMA = ("ul2", "ul2-it", "prefixlm", "prefixlm-it")  # their sizes are the defaults of its class

# By the part of the name after the owner.
SHAPES: dict[str, dict[str, Any]] = {
    "t5-small": _t5(512, 6, 8, 64, 2048),
    "t5-base": _t5(768, 12, 12, 64, 3072),
    "t5-large": _t5(1024, 24, 16, 64, 4096),
    "t5-3b": _t5(1024, 24, 32, 128, 16384),
    "t5-11b": _t5(1024, 24, 128, 128, 65536),
    **{f"t5-v1_1-{size}": shape for size, shape in _T5_1_1.items()},
    **{f"t5-{size}-lm-adapt": shape for size, shape in _T5_1_1.items()},
    **{f"flan-t5-{size}": shape for size, shape in _T5_1_1.items()},
    "t5-xxl": _T5_1_1["xxl"],
    "llama-7b": _llama(4096, 32, 32, 11008),
    "Llama-2-7b-hf": _llama(4096, 32, 32, 11008),
    "Llama-2-13b-hf": _llama(5120, 40, 40, 13824),
    "Llama-3.2-1B": _llama3(2048, 16, 8192, 32.0, head_dim=64, tie_word_embeddings=True),
    "Llama-3.1-8B": _llama3(4096, 32, 14336, 8.0),
    "smollm2-135m": _llama(
        576,
        30,
        9,
        1536,
        vocab_size=49152,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    ),
    **{f"t5gemma-2b-2b-{how}": {"model_type": "t5gemma"} for how in _T5GEMMA},
    "gpt-oss-20b": _gpt_oss(24, 32),
    "gpt-oss-120b": _gpt_oss(36, 128),
    "Qwen3.5-9B": {"model_type": "qwen3_5_text", "tie_word_embeddings": False},
    "gemma3-270m": {
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 640,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "intermediate_size": 2048,
        "sliding_window": 512,
    },
}


def local_path(name: str) -> Path | None:
    """The folder or file of a model that is on this machine already; None if it is not."""
    if name in PACKAGED:
        return packaged_file_here(name)
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json") if name.count("/") == 1 else None
    return Path(cached).parent if isinstance(cached, str) else None


def abstract_backbone(
    name: str,
    dtype: DTypeLike = jnp.float32,
    weights: str = "full",
    remat: str = "elementwise",
    decoder_prompt: int = 0,
) -> Backbone:
    """A model with the shapes of its weights but no values; it takes no memory and downloads nothing.

    Args:
        name: the name of a model, as for ``load_pretrained``; so are the other arguments. A model that is not
            on this machine must be in ``SHAPES``.

    Raises:
        UserError: the model is neither on this machine nor known, or mpt does not support its family.
    """
    config, names = _described(name)
    family = FAMILIES[config.model_type]
    spec = family.spec_of(config, names, Path(name))
    if decoder_prompt:
        spec = replace(spec, decoder_prompt=decoder_prompt)

    def build() -> Backbone:
        backbone = family.module(spec, rngs=nnx.Rngs(0), dtype=dtype, remat=remat)
        if weights == "int8":
            quantize(backbone)
        return backbone

    return nnx.eval_shape(build)


def _described(name: str) -> tuple[PreTrainedConfig, set[str]]:
    """A model's config, and those names of its tensors that its family needs to know."""
    path = local_path(name)
    if path and path.suffix == ".gguf":
        config, _, stored = open_gguf(path)
        return config, set(stored)
    if path and list(path.glob("*.safetensors")):
        config, stored = read_config(path), open_tensors(path)
        return config, set(stored) - FAMILIES[config.model_type].copies(config, stored)
    if path and (path / "config.json").is_file():
        config, facts = read_config(path), read_json(path / "config.json")
    else:
        facts = _known(name)
        kind, rest = facts["model_type"], {key: value for key, value in facts.items() if key != "model_type"}
        config = AutoConfig.for_model(kind, **rest)
    # Only the file, not the config object, shows whether a T5 has a separate head.
    return config, set() if facts.get("tie_word_embeddings", True) else {HEAD}


def _known(name: str) -> dict[str, Any]:
    model = name.rpartition("/")[2]
    if model not in SHAPES:
        hint = nearest(model, SHAPES)
        raise UserError(f"model '{name}' is not here, and its shape is not known; {hint}, or give a folder")
    return SHAPES[model]
