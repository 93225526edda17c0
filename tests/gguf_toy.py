"""A tiny GGUF file of the Llama family, written with the gguf package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from golden import tiny
from tokenizers import pre_tokenizers

from mpt.loading.gguf_file import NAMES

FIELDS: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.eos_token_id": 0,
}


def write_gguf(
    file: Path,
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """The weights of the checkpoint "toy-llama", with other ``fields`` and more ``tensors``."""
    writer = GGUFWriter(file, "llama")
    for name, value in (FIELDS | dict(fields or {})).items():
        add = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
        }
        add[type(value)](name, value)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(first, second) for first in "abcde" for second in "abcde"]
    writer.add_token_list(["<eos>", *letters, *(first + second for first, second in pairs), "<pad>"])
    writer.add_token_types([3, *[1] * 281, 3])
    writer.add_token_merges([f"{first} {second}" for first, second in pairs])
    back = {theirs: ours for ours, theirs in NAMES.items()}
    for name, tensor in tiny.weights("toy-llama").items():
        stem, _, suffix = name.rpartition(".")
        block = ""
        if stem.startswith("model.layers."):
            number, stem = stem.removeprefix("model.layers.").split(".", 1)
            block = f"blk.{number}."
        kind = back[stem]
        if kind in ("attn_q", "attn_k"):  # halves of a head, as pairs
            heads = FIELDS["llama.attention.head_count" + ("" if kind == "attn_q" else "_kv")]
            tensor = tensor.reshape(heads, 2, -1, 32).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(f"{block}{kind}.{suffix}", tensor)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, np.array(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
