"""Byte-level BPE tokenizers of GGUF files, whose splitting of texts has a name there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mpt.errors import UserError

_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORTENED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _small_or_capital(ending: str, digits: str) -> str:
    """Words that end before a capital letter, of digits a few at a time, and signs."""
    words = rf"{_UPPER}*{_LOWER}+{ending}", rf"{_UPPER}+{_LOWER}*{ending}"
    behind = r"[^\r\n\p{L}\p{N}]?"
    rest = rf"\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
    return "|".join([*(behind + word for word in words), rest])


def _small_and_capital(letters: str, digits: str) -> str:
    """Words, of digits a few at a time, and signs."""
    return (
        rf"{_SHORTENED}|[^\r\n\p{{L}}\p{{N}}]?[{letters}]+|\p{{N}}{digits}"
        rf"| ?[^\s{letters}\p{{N}}]+[\r\n]*|{_REST}"
    )


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3, QWEN2 = _small_and_capital(r"\p{L}", "{1,3}"), _small_and_capital(r"\p{L}", "")
QWEN3_5 = _small_and_capital(r"\p{L}\p{M}", "")
TEKKEN, GPT_4O = _small_or_capital("", ""), _small_or_capital(f"{_SHORTENED}?", "{1,3}")


class Splitting(NamedTuple):
    """How a text is made ready for byte-pair merging.

    Attributes:
        pattern: the regular expression of what no merge goes beyond.
        digits_alone: every digit is cut off first.
        composed: letters and their accents are put together first (NFC).
        whole: what is a token as a whole is not merged at all.
        begun: texts begin with the beginning-of-text token where the file does not say whether they do.
    """

    pattern: str
    digits_alone: bool = False
    composed: bool = False
    whole: bool = False
    begun: bool = False


# By the name in the file, which stands for the tokenizer of a model; llama.cpp has the list, and the models'
# own tokenizer.json the normalizers, which llama.cpp leaves out.
_DIGITS, _LLAMA3 = Splitting(GPT2, digits_alone=True), Splitting(LLAMA3, whole=True, begun=True)
SPLITTINGS = {
    "command-r": Splitting(GPT2, digits_alone=True, composed=True),
    "dbrx": Splitting(LLAMA3),
    "deepseek-r1-qwen": Splitting(QWEN2),
    "gpt-2": Splitting(GPT2),
    "gpt-4o": Splitting(GPT_4O),
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": Splitting(QWEN2, composed=True),
    "qwen35": Splitting(QWEN3_5, composed=True),
    "refact": _DIGITS,
    "smaug-bpe": Splitting(LLAMA3),
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "tekken": Splitting(TEKKEN, whole=True, begun=True),
}


def splitting_of(fields: Mapping[str, Any]) -> Splitting:
    """How a file's texts are split.

    Raises:
        UserError: the file does not say, or names a splitting that is not known.
    """
    name = fields.get("tokenizer.ggml.pre")
    if name not in SPLITTINGS:
        raise UserError(
            f"tokenizer.ggml.pre is {name!r}, but {', '.join(sorted(SPLITTINGS))} are supported; "
            "give a Hugging Face folder instead"
        )
    return SPLITTINGS[name]


def byte_level(fields: Mapping[str, Any], tokens: Sequence[str], splitting: Splitting) -> Tokenizer:
    """A tokenizer whose letters stand for bytes, as GPT-2's."""
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=splitting.whole))
    if splitting.composed:
        tokenizer.normalizer = normalizers.NFC()
    digits = [pre_tokenizers.Digits(individual_digits=True)] if splitting.digits_alone else []
    words = pre_tokenizers.Split(Regex(splitting.pattern), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
