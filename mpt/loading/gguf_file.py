"""Reads GGUF files as if they were Hugging Face folders.

Tensors stay quantised on disk and are dequantised one at a time, when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from mpt.errors import UserError, one_line
from mpt.loading.fields import refuse_unknown
from mpt.loading.gguf_architectures import ARCHITECTURES, Architecture, config_of
from mpt.loading.gguf_rope import ROPE_TENSORS
from mpt.loading.gguf_tokenizer import read_tokenizer_fields

# Notes, names and what mpt leaves to its own templates; each is a field or the beginning of some. "{}" stands
# for the name of the architecture.
HARMLESS = (
    "GGUF.",
    "general.",
    "quantize.",
    "imatrix.",
    "{}.context_length",
    "{}.rope.scaling.finetuned",
    "{}.rope.scaling.original_context_length",
    "split.tensors.count",
    "tokenizer.chat_template",
    "tokenizer.huggingface.json",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.token_type_count",
)


class GGUFTensors:
    """The tensors of a GGUF file in float32, under Hugging Face names and layouts."""

    def __init__(self, path: Path, reader: GGUFReader, config: PreTrainedConfig, architecture: Architecture):
        self._path, self._config, self._architecture = path, config, architecture
        weights = (tensor for tensor in reader.tensors if tensor.name not in ROPE_TENSORS)
        self._tensors = {_renamed(tensor.name, architecture.names): tensor for tensor in weights}

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        try:
            array = dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError) as error:
            raise UserError(f"{self._path}: '{tensor.name}' cannot be read ({one_line(error)})") from None
        return self._architecture.tensor(array, tensor.name.split(".")[-2], self._config)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._path


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """ "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"."""
    *block, kind, suffix = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{names.get(kind, kind)}.{suffix}"


def open_gguf(path: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast, GGUFTensors]:
    """Opens a GGUF file: its config, its tokenizer and its tensors.

    Raises:
        UserError: the file is not GGUF, or has an architecture or a tokenizer that mpt does not read.
    """
    try:
        reader = GGUFReader(path)
        fields = Fields({name: field.contents() for name, field in reader.fields.items()})
    except Exception as error:  # the reader raises whatever comes of a damaged file
        raise UserError(f"{path}: not a readable GGUF file ({one_line(error)}); fetch it again") from None
    try:
        name = fields["general.architecture"]
        if name not in ARCHITECTURES:
            raise UserError(
                f"architecture '{name}'; GGUF is read for {' and '.join(ARCHITECTURES)}, "
                "give a Hugging Face folder instead"
            )
        stored = {tensor.name: tensor for tensor in reader.tensors}
        ropes = [stored[name] for name in ROPE_TENSORS if name in stored]
        factors = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in ropes}
        config = config_of(name, fields, factors, tied="output.weight" not in stored)
        tokenizer = read_tokenizer_fields(fields, name)
        tensors = GGUFTensors(path, reader, config, ARCHITECTURES[name])
        fields.refuse_unread(name, ARCHITECTURES[name].fixed)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # transformers and tokenizers raise many types
        raise UserError(f"{path}: its fields describe no model ({one_line(error)}); fetch it again") from None
    refuse_unknown(config, path)
    return config, tokenizer, tensors


class Fields(Mapping[str, Any]):
    """The fields of a GGUF file, which notes those that are read."""

    def __init__(self, fields: Mapping[str, Any]):
        self._fields, self._read = fields, set[str]()

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def refuse_unread(self, architecture: str, fixed: Mapping[str, tuple[Any, ...]]) -> None:
        """Checks that every field has been read, changes nothing, or has a value that mpt computes with.

        Args:
            architecture: the name with which its own fields begin; ``{}`` stands for it.
            fixed: the values of those that may have few.

        Raises:
            UserError: a field has not; the error names it.
        """
        values = {name.format(architecture): allowed for name, allowed in fixed.items()}
        unneeded = tuple(name.format(architecture) for name in HARMLESS)
        for name, value in self._fields.items():
            if name in values and value not in values[name]:
                raise UserError(f"{name} is {value!r}, and mpt computes with {values[name][0]!r} only")
            harmless = name.startswith(unneeded) or name.endswith(("_token_id", "_token_ids"))
            if name not in self._read and name not in values and not harmless:
                raise UserError(f"mpt does not know the field {name}; give a Hugging Face folder instead")
