"""Reads GGUF files of the Llama family as if they were Hugging Face folders.

Tensors stay quantised on disk and are dequantised one at a time, when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast

from mpt.errors import UserError, one_line
from mpt.loading.fields import refuse_unknown
from mpt.loading.gguf_rope import ROPE_TENSORS, rope_parameters

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

# How text is split before byte-pair merging, by the name in the file (from llama.cpp's list).
DIGITS_ALONE = {"smollm", "refact", "command-r"}
PLAIN = {"gpt-2", "default"}
CONTROL, USER_DEFINED = 3, 4

# Notes, names and what mpt leaves to its own templates; each is a field or the beginning of some.
HARMLESS = (
    "GGUF.",
    "general.",
    "quantize.",
    "imatrix.",
    "llama.context_length",
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.original_context_length",
    "split.tensors.count",
    "tokenizer.chat_template",
    "tokenizer.huggingface.json",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.token_type_count",
)
# The values with which mpt computes.
FIXED: dict[str, tuple[Any, ...]] = {
    "general.type": ("model",),
    "llama.attention.causal": (True,),
    "llama.attention.scale": (0.0,),
    "llama.attention.sliding_window": (0,),
    "llama.expert_count": (0,),
    "llama.expert_used_count": (0,),
    "llama.logit_scale": (0.0, 1.0),
    "llama.tensor_data_layout": ("Meta AI original pth",),
    "split.count": (0, 1),
    "split.no": (0,),
    "tokenizer.ggml.add_space_prefix": (False,),
    "tokenizer.ggml.remove_extra_whitespaces": (False,),
}


class GGUFTensors:
    """The tensors of a GGUF file in float32, under Hugging Face names and layouts."""

    def __init__(self, path: Path, reader: GGUFReader, config: LlamaConfig):
        self._path = path
        self._heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        weights = (tensor for tensor in reader.tensors if tensor.name not in ROPE_TENSORS)
        self._tensors = {_renamed(tensor.name): tensor for tensor in weights}

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        try:
            array = dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError) as error:
            raise UserError(f"{self._path}: '{tensor.name}' cannot be read ({one_line(error)})") from None
        kind = tensor.name.split(".")[-2]
        if kind in self._heads:
            # Rows are stored in the order for interleaved rotation; ours rotates halves.
            rows, columns = array.shape
            pairs = array.reshape(self._heads[kind], -1, 2, columns)
            array = pairs.swapaxes(1, 2).reshape(rows, columns)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._path


def _renamed(name: str) -> str:
    """ "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"."""
    *block, kind, suffix = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{NAMES.get(kind, kind)}.{suffix}"


def open_gguf(path: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerFast, GGUFTensors]:
    """Opens a GGUF file: its config, its tokenizer and its tensors.

    Raises:
        UserError: the file is not GGUF, or has another architecture or tokenizer than Llama's.
    """
    try:
        reader = GGUFReader(path)
        fields = Fields({name: field.contents() for name, field in reader.fields.items()})
    except Exception as error:  # the reader raises whatever comes of a damaged file
        raise UserError(f"{path}: not a readable GGUF file ({one_line(error)}); fetch it again") from None
    try:
        if fields["general.architecture"] != "llama":
            raise UserError(
                f"architecture '{fields['general.architecture']}'; GGUF is read for 'llama' only, "
                "give a Hugging Face folder instead"
            )
        stored = {tensor.name: tensor for tensor in reader.tensors}
        ropes = [stored[name] for name in ROPE_TENSORS if name in stored]
        factors = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in ropes}
        config = _config(fields, factors, tied="output.weight" not in stored)
        tokenizer, tensors = _tokenizer(fields), GGUFTensors(path, reader, config)
        fields.refuse_unread()
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

    def refuse_unread(self) -> None:
        """Checks that every field has been read, changes nothing, or has the value that mpt computes with.

        Raises:
            UserError: a field has not; the error names it.
        """
        for name, value in self._fields.items():
            if name in FIXED and value not in FIXED[name]:
                raise UserError(f"{name} is {value!r}, and mpt computes with {FIXED[name][0]!r} only")
            harmless = name.startswith(HARMLESS) or name.endswith(("_token_id", "_token_ids"))
            if name not in self._read and name not in FIXED and not harmless:
                raise UserError(f"mpt does not know the field {name}; give a Hugging Face folder instead")


def _config(fields: Mapping[str, Any], factors: Mapping[str, np.ndarray], tied: bool) -> LlamaConfig:
    def get(name: str, default: Any = None) -> Any:
        value = fields.get(f"llama.{name}", default)
        if value is None:
            raise UserError(f"no field llama.{name}; fetch it again")
        return value

    heads, width = get("attention.head_count"), get("embedding_length")
    config = LlamaConfig(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=width,
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=get("attention.head_count_kv", heads),
        head_dim=get("attention.key_length", width // heads),
        max_position_embeddings=fields.get("llama.context_length", 2048),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_parameters=rope_parameters("llama", fields, factors),
        tie_word_embeddings=tied,
        bos_token_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=fields.get("tokenizer.ggml.eos_token_id"),
    )
    for name, ours in {
        "vocab_size": config.vocab_size,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
    }.items():
        if (theirs := get(name, ours)) != ours:
            raise UserError(f"llama.{name} is {theirs}, and mpt computes with {ours} here")
    return config


def _tokenizer(fields: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    kind, splitting = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or splitting not in DIGITS_ALONE | PLAIN:
        raise UserError(
            f"tokenizer '{kind}/{splitting}' is not supported; give a Hugging Face folder instead"
        )
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if splitting in DIGITS_ALONE else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, types) if kind == CONTROL])
    tokenizer.add_tokens([token for token, kind in zip(tokens, types) if kind == USER_DEFINED])

    if fields.get("tokenizer.ggml.eos_token_id") is None:
        raise UserError("no field tokenizer.ggml.eos_token_id, the token which ends every answer")

    def special(name: str) -> str | None:
        number = fields.get(f"tokenizer.ggml.{name}_token_id")
        return None if number is None else tokens[number]

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special("bos"),
        eos_token=special("eos"),
        unk_token=special("unknown"),
        pad_token=special("padding"),
        chat_template=fields.get("tokenizer.chat_template"),
    )
