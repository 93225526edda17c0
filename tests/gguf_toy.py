"""Tiny GGUF files of Llama and Gemma 3, written with the gguf package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from golden import tiny
from tokenizers import pre_tokenizers

from mpt.loading.gguf.architectures import GEMMA_NAMES, NAMES

FIELDS: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.eos_token_id": 0,
}

GEMMA_FIELDS: dict[str, Any] = {
    "gemma3.block_count": 4,
    "gemma3.context_length": 64,
    "gemma3.embedding_length": 32,
    "gemma3.feed_forward_length": 40,
    "gemma3.attention.head_count": 4,
    "gemma3.attention.head_count_kv": 2,
    "gemma3.attention.key_length": 8,
    "gemma3.attention.value_length": 8,
    "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
    "gemma3.attention.sliding_window": 5,
    "gemma3.rope.freq_base": 1e6,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.padding_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.ggml.bos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 3,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.add_space_prefix": False,
}
# Specials, runs of lines and blanks, letters, and what these are merged to, in the order of merges.
MERGED = ["he", "ll", "▁w", "hell", "hello", "or", "ld", "▁wor", "▁world", "lo", "el"]
GEMMA_TOKENS = [
    *("<pad>", "<eos>", "<bos>", "<unk>"),
    *("\n", "▁", "  ", "   "),
    *"abcdefghijklmnopqrstuvwxyz12345"[:29],
    *MERGED,
]
GEMMA_TYPES = [3, 3, 3, 3, 4, 1, 4, 4, *[1] * 40]


def write_gguf(
    file: Path,
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """The weights of the checkpoint "toy-llama", with other ``fields`` and more ``tensors``."""
    writer = _with_fields(file, "llama", FIELDS | dict(fields or {}))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(first, second) for first in "abcde" for second in "abcde"]
    writer.add_token_list(["<eos>", *letters, *(first + second for first, second in pairs), "<pad>"])
    writer.add_token_types([3, *[1] * 281, 3])
    writer.add_token_merges([f"{first} {second}" for first, second in pairs])
    for kind, name, tensor in _tensors("toy-llama", NAMES):
        if kind in ("attn_q", "attn_k"):  # halves of a head, as pairs
            heads = FIELDS["llama.attention.head_count" + ("" if kind == "attn_q" else "_kv")]
            tensor = tensor.reshape(heads, 2, -1, 32).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(name, tensor)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, np.array(values, np.float32))
    return _written(writer, file)


def write_gemma(file: Path, fields: Mapping[str, Any] | None = None) -> Path:
    """The weights of the checkpoint "gemma3_text", with other ``fields``."""
    writer = _with_fields(file, "gemma3", GEMMA_FIELDS | dict(fields or {}))
    writer.add_token_list(GEMMA_TOKENS)
    writer.add_token_types(GEMMA_TYPES)
    writer.add_token_scores([-1000.0] * len(GEMMA_TOKENS))
    for kind, name, tensor in _tensors("gemma3_text", GEMMA_NAMES):
        writer.add_tensor(name, tensor + 1 if kind.endswith("norm") else tensor)
    return _written(writer, file)


def _with_fields(file: Path, architecture: str, fields: Mapping[str, Any]) -> GGUFWriter:
    writer = GGUFWriter(file, architecture)
    for name, value in fields.items():
        add = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
        }
        add[type(value)](name, value)
    return writer


def _tensors(family: str, names: Mapping[str, str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Of each tensor its kind, its name in the file, and its values in a Hugging Face folder."""
    back = {theirs: ours for ours, theirs in names.items()}
    for name, tensor in tiny.weights(family).items():
        stem, _, suffix = name.rpartition(".")
        block = ""
        if stem.startswith("model.layers."):
            number, stem = stem.removeprefix("model.layers.").split(".", 1)
            block = f"blk.{number}."
        yield back[stem], f"{block}{back[stem]}.{suffix}", tensor


def _written(writer: GGUFWriter, file: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
