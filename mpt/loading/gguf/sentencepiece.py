"""Sentencepiece's BPE tokenizers of GGUF files: Gemma's, and those of Llama 2, Mistral and Phi 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from mpt.errors import UserError

BLANK = "▁"  # the sign for a blank
NORMAL = 1


def gemma(fields: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    """Gemma's: texts are split at blanks, and merged in the order of the tokens, not of their scores.

    Gemma 4's files list the merges, and some of its tokens come of none.
    """
    tokenizer = _bpe(fields, tokens, _listed(fields) or _merges(tokens))
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return tokenizer


def llama(fields: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    """Merges a whole text, behind a blank that is put in front, as sentencepiece does.

    Raises:
        UserError: the scores are those of a unigram model, which chooses tokens otherwise.
    """
    scores = fields["tokenizer.ggml.scores"]
    if any(kind == NORMAL and score % 1 for score, kind in zip(scores, types)):
        raise UserError(
            "tokenizer.ggml.scores are those of a unigram model, which is not supported; "
            "give a Hugging Face folder instead"
        )
    # Some older files list the merges; those without scores of their own have one for all, and the tokens in
    # the order of merges.
    ranked = sorted(range(len(tokens)), key=lambda i: (-scores[i], i))
    tokenizer = _bpe(fields, tokens, _listed(fields) or _merges([tokens[i] for i in ranked]))
    signs: list[normalizers.Normalizer] = [normalizers.Replace(" ", BLANK)]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        signs.insert(0, normalizers.Prepend(BLANK))
        tokenizer.decoder = decoders.Sequence([tokenizer.decoder, decoders.Strip(" ", 1, 0)])
    tokenizer.normalizer = normalizers.Sequence(signs)
    return tokenizer


def respelled(token: str) -> str:
    """A run of blanks, which Gemma's files have as it is, in sentencepiece's spelling."""
    return BLANK * len(token) if token and not token.strip(" ") else token


def _bpe(fields: Mapping[str, Any], tokens: Sequence[str], merges: list[tuple[str, str]]) -> Tokenizer:
    """What has no token is written in bytes."""
    unknown = tokens[fields.get("tokenizer.ggml.unknown_token_id", 0)]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _listed(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = (merge.split(" ") for merge in fields.get("tokenizer.ggml.merges", ()))
    return [(first, second) for first, second in pairs]


def _merges(ranked: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs that are merged, first come first: files list none, but the tokens that come of them."""
    known = frozenset(ranked)
    return [
        (token[:cut], token[cut:])
        for token in ranked
        for cut in range(len(token) - 1, 0, -1)
        if token[:cut] in known and token[cut:] in known
    ]
