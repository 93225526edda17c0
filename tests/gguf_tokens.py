"""Tokenizers, written into GGUF files as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gguf import GGUFWriter, TokenType
from sentencepiece import SentencePieceProcessor
from transformers import PreTrainedTokenizerFast


def add_words(writer: GGUFWriter, size: int, kind: str = "gpt2") -> None:
    """The tokens of a model that reads none: tests of tokenizers write others."""
    writer.add_tokenizer_model(kind)
    if kind == "gpt2":
        writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["a", "b", "ab", *(f"w{i}" for i in range(3, size))])
    writer.add_token_types([TokenType.NORMAL] * size)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def add_byte_level(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, splitting: str) -> None:
    """TextModel.get_vocab_base and _set_vocab_gpt2, in base.py."""
    found = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {token["id"]: token["special"] for token in found["added_tokens"]}
    of_added = {False: TokenType.USER_DEFINED, True: TokenType.CONTROL}
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([of_added[added[i]] if i in added else TokenType.NORMAL for _, i in tokens])
    writer.add_token_merges([" ".join(merge) for merge in found["model"]["merges"]])


def add_gemma4(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    """Gemma4Model.set_vocab, in gemma.py, and LlamaHfVocab, of the gguf package."""
    special, base = set(tokenizer.all_special_ids), tokenizer.vocab_size
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    shown = {"<|channel>", "<channel|>"}

    def kind(token: str, i: int) -> TokenType:
        if token in shown or (i >= base and i not in special):
            return TokenType.USER_DEFINED
        if token.startswith("<0x"):
            return TokenType.BYTE
        return TokenType.CONTROL if i in special else TokenType.NORMAL

    writer.add_tokenizer_model("gemma4")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_scores([-1000.0] * len(tokens))
    writer.add_token_types([kind(token, i) for token, i in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_space_prefix(False)


def add_sentencepiece(writer: GGUFWriter, model: SentencePieceProcessor, special: Sequence[str] = ()) -> None:
    """TextModel._create_vocab_sentencepiece, in base.py; ``special`` tokens are a tokenizer_config's."""
    numbers = range(model.vocab_size())
    kinds = {
        TokenType.UNKNOWN: model.IsUnknown,
        TokenType.CONTROL: model.IsControl,
        TokenType.BYTE: model.IsByte,
    }
    types = [next((kind for kind, of in kinds.items() if of(i)), TokenType.NORMAL) for i in numbers]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*map(model.IdToPiece, numbers), *special])
    writer.add_token_scores([*map(model.GetScore, numbers), *[-1000.0] * len(special)])
    writer.add_token_types([*types, *[TokenType.CONTROL] * len(special)])
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
