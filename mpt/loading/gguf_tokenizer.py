"""Builds the tokenizer that a GGUF file's fields describe: byte-level, or sentencepiece as Gemma has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mpt.errors import UserError

# How text is split before byte-pair merging, by the name in the file (from llama.cpp's list).
DIGITS_ALONE = {"smollm", "refact", "command-r"}
PLAIN = {"gpt-2", "default"}
CONTROL, USER_DEFINED = 3, 4
BLANK = "▁"  # sentencepiece's sign for a blank


def read_tokenizer_fields(fields: Mapping[str, Any], architecture: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a file's fields.

    Raises:
        UserError: it is of another kind, or has no token that ends an answer.
    """
    kind, splitting = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "default")
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    if (kind, splitting, architecture) == ("llama", "default", "gemma3"):
        tokens = [_respelled(token) for token in tokens]
        tokenizer = _sentencepiece(fields, tokens)
    elif kind == "gpt2" and splitting in DIGITS_ALONE | PLAIN:
        tokenizer = _byte_level(fields, tokens, splitting)
    else:
        raise UserError(
            f"tokenizer '{kind}/{splitting}' is not supported; give a Hugging Face folder instead"
        )
    # What the user defines is looked for in the text as it is, where a blank is a blank.
    added = [token for token, kind in zip(tokens, types) if kind == USER_DEFINED and set(token) != {BLANK}]
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, types) if kind == CONTROL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])

    if fields.get("tokenizer.ggml.add_bos_token"):
        number = fields.get("tokenizer.ggml.bos_token_id")
        if number is None:
            raise UserError("no field tokenizer.ggml.bos_token_id, the token that is to begin every text")
        first = tokens[number]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, number)]
        )
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


def _byte_level(fields: Mapping[str, Any], tokens: Sequence[str], splitting: str) -> Tokenizer:
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if splitting in DIGITS_ALONE else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(fields: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    """Gemma's: blanks are letters, and what has no token is written in bytes."""
    unknown = tokens[fields["tokenizer.ggml.unknown_token_id"]]
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = _merges(tokens, vocab)
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _respelled(token: str) -> str:
    """A run of blanks is stored as it is, and looked for in sentencepiece's spelling."""
    return BLANK * len(token) if token and not token.strip(" ") else token


def _merges(tokens: Sequence[str], vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs that are merged, first come first: the file lists none, and its tokens are in that order."""
    return [
        (token[:cut], token[cut:])
        for token in tokens
        for cut in range(len(token) - 1, 0, -1)
        if token[:cut] in vocab and token[cut:] in vocab
    ]
