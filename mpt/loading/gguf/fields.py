"""The fields of a GGUF file: each is read, or changes nothing, or is refused by its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mpt.errors import UserError

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

# The values with which mpt computes where an architecture does not read the field.
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
    "tokenizer.ggml.pre": ("default",),  # of sentencepiece; what is split at bytes has names
    "tokenizer.ggml.remove_extra_whitespaces": (False,),
}


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

    def refuse_unread(self, architecture: str) -> None:
        """Checks that every field has been read, changes nothing, or has a value that mpt computes with.

        Args:
            architecture: the name with which its own fields begin.

        Raises:
            UserError: a field has not; the error names it.
        """
        fixed = {name.format(architecture): allowed for name, allowed in FIXED.items()}
        harmless = tuple(name.format(architecture) for name in HARMLESS)
        for name, value in self._fields.items():
            if name in self._read:
                continue
            if name in fixed:
                if value not in fixed[name]:
                    raise UserError(f"{name} is {value!r}, and mpt computes with {fixed[name][0]!r} only")
            elif not name.startswith(harmless) and not name.endswith(("_token_id", "_token_ids")):
                raise UserError(f"mpt does not know the field {name}; give a Hugging Face folder instead")


class Own(NamedTuple):
    """What a file says of its model: the fields that begin with the architecture's name, and the tensors.

    Attributes:
        name: the architecture.
        fields: all fields of the file.
        tensors: the names of its tensors.
        factors: those tensors that scale the rotary embedding.
    """

    name: str
    fields: Mapping[str, Any]
    tensors: Collection[str]
    factors: Mapping[str, np.ndarray]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a field; one without a default must be there."""
        value = self.fields.get(f"{self.name}.{key}", default)
        if value is None:
            raise UserError(f"no field {self.name}.{key}; fetch it again")
        return value

    def check(self, key: str, ours: Any) -> None:
        """Refuses a field with another value than the one that mpt computes with."""
        if (theirs := self.get(key, ours)) != ours:
            raise UserError(f"{self.name}.{key} is {theirs}, and mpt computes with {ours} here")
