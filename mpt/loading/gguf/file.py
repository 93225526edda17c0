"""Opens GGUF files as if they were Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFReader, dequantize
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from mpt.errors import UserError, one_line
from mpt.loading.fields import refuse_unknown
from mpt.loading.gguf.architectures import ARCHITECTURES
from mpt.loading.gguf.fields import Fields, Own
from mpt.loading.gguf.rope import ROPE_TENSORS
from mpt.loading.gguf.tensors import GGUFTensors
from mpt.loading.gguf.tokenizer import read_tokenizer_fields


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
                f"architecture '{name}' is not supported, but {', '.join(sorted(ARCHITECTURES))} are; "
                "give a Hugging Face folder instead"
            )
        architecture, stored = ARCHITECTURES[name], {tensor.name: tensor for tensor in reader.tensors}
        ropes = [stored.pop(rope) for rope in ROPE_TENSORS if rope in stored]
        factors = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in ropes}
        config = architecture.config(Own(name, fields, stored.keys(), factors))
        tokenizer = read_tokenizer_fields(fields, name)
        tensors = GGUFTensors(path, stored.values(), config, architecture)
        fields.refuse_unread(name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # transformers and tokenizers raise many types
        raise UserError(f"{path}: its fields describe no model ({one_line(error)}); fetch it again") from None
    refuse_unknown(config, path)
    return config, tokenizer, tensors
