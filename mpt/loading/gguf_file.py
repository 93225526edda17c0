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

from mpt.errors import UserError

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


class GGUFTensors:
    """The tensors of a GGUF file in float32, under Hugging Face names and layouts."""

    def __init__(self, path: Path, reader: GGUFReader, config: LlamaConfig):
        self._path = path
        self._heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        self._tensors = {_renamed(tensor.name): tensor for tensor in reader.tensors}

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        array = dequantize(tensor.data, tensor.tensor_type)
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
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not a readable GGUF file ({error}); fetch it again") from None
    fields = {name: field.contents() for name, field in reader.fields.items()}
    if fields["general.architecture"] != "llama":
        raise UserError(
            f"{path}: architecture '{fields['general.architecture']}'; GGUF is read for 'llama' only, "
            "give a Hugging Face folder instead"
        )
    config = _config(fields, tied="output.weight" not in {tensor.name for tensor in reader.tensors})
    return config, _tokenizer(path, fields), GGUFTensors(path, reader, config)


def _config(fields: Mapping[str, Any], tied: bool) -> LlamaConfig:
    values = {name.removeprefix("llama."): value for name, value in fields.items()}
    heads, width = values["attention.head_count"], values["embedding_length"]
    return LlamaConfig(
        vocab_size=len(values["tokenizer.ggml.tokens"]),
        hidden_size=width,
        intermediate_size=values["feed_forward_length"],
        num_hidden_layers=values["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=values.get("attention.head_count_kv", heads),
        head_dim=values.get("attention.key_length", width // heads),
        max_position_embeddings=values["context_length"],
        rms_norm_eps=values["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": values.get("rope.freq_base", 10_000.0)},
        tie_word_embeddings=tied,
        bos_token_id=values.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=values.get("tokenizer.ggml.eos_token_id"),
    )


def _tokenizer(path: Path, fields: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    kind, splitting = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or splitting not in DIGITS_ALONE | PLAIN:
        raise UserError(
            f"{path}: tokenizer '{kind}/{splitting}' is not supported; give a Hugging Face folder instead"
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
