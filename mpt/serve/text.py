"""The text that generated tokens are: where it ends, and what of it later tokens cannot change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mpt.inference.token_scores import TokenScores

Decode = Callable[[Sequence[int]], str]
HALF = "\ufffd"  # a token that is but part of a character


class TextSampling(NamedTuple):
    """How one text is generated; ``mpt.inference.generate.SamplingParams`` has a batch's.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token at each step.
        top_p: tokens are drawn from the smallest set that has at least this probability.
        seed: the same seed draws the same text.
        max_new_tokens: maximum number of tokens to generate.
        stop: texts in front of which the text is cut.
        ends: tokens that end the text, besides the model's end-of-text token.
        likeliest: for how many of the likeliest tokens in each one's place the log probability is told,
            beside the token's own; None tells none.
    """

    temperature: float
    top_p: float
    seed: int
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()
    likeliest: int | None = None


class Token(NamedTuple):
    """A token of a generated text.

    Attributes:
        text: its characters, or ``HALF``.
        start: the index of the first of them in the text.
        score: its log probability by the model itself, before any temperature.
        likeliest: the likeliest tokens in its place, each with its log probability.
    """

    text: str
    start: int
    score: float
    likeliest: tuple[tuple[str, float], ...]


class GeneratedText(NamedTuple):
    """An answer to a request to generate, whole or as far as it goes.

    Attributes:
        text: the generated text; while more follows, only what later tokens cannot change.
        ended: whether the model, a stop text or a class word ended it, not the maximum number of tokens.
        tokens_read: number of tokens of the input.
        tokens_written: number of tokens generated, up to the end of ``text`` or of what ended it.
        tokens: those of ``text``, if their log probabilities are returned.
        more: whether more may follow.
    """

    text: str
    ended: bool
    tokens_read: int
    tokens_written: int
    tokens: tuple[Token, ...] = ()
    more: bool = False


def text_of(
    ids: Sequence[int], over: bool, sampling: TextSampling, words: Sequence[str], read: int, decode: Decode
) -> GeneratedText:
    """The text of the tokens so far, without their log probabilities.

    Args:
        ids: the tokens so far.
        over: whether no token follows.
        words: the class words of the task; a text that begins with one ends after it.
        read: number of tokens of the input.
        decode: turns tokens into text.
    """
    kept = list(itertools.takewhile(lambda token: token not in sampling.ends, ids))
    over = over or len(kept) < len(ids)
    text = decode(kept)
    if not over and any(text.strip() != word and word.startswith(text.strip()) for word in words):
        return GeneratedText("", False, read, len(kept), more=True)
    if length := class_word_length(kept, words, decode):
        return GeneratedText(decode(kept[:length]), True, read, length)
    if any(stop in text for stop in sampling.stop):
        length, text = _until_stop(kept, sampling.stop, decode)
        return GeneratedText(text.rstrip(), True, read, length)
    if over:
        return GeneratedText(text.rstrip(), len(kept) < sampling.max_new_tokens, read, len(kept))
    sure = len(text) - max((_begun(stop, text) for stop in sampling.stop), default=0)
    return GeneratedText(text[:sure].rstrip(), False, read, len(kept), more=True)


def class_word_length(ids: Sequence[int], words: Sequence[str], decode: Decode) -> int:
    """How many of the tokens are the longest class word that they begin with; 0 if they begin with none."""
    found, length, most = "", 0, max(map(len, words), default=0)
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end]).strip()
        if len(text) > most:
            break
        if text in words and len(text) > len(found):
            found, length = text, end
    return length


def tokens_of(
    answer: GeneratedText,
    ids: Sequence[int],
    scores: TokenScores,
    likeliest: int,
    known: tuple[Token, ...],
    decode: Decode,
) -> tuple[Token, ...]:
    """The tokens of an answer's text.

    Args:
        ids: all tokens that have been generated.
        scores: the log probabilities of this text's tokens.
        likeliest: how many of the most likely tokens are returned at each position.
        known: the first tokens, if they have been found before.
    """

    def piece(before: Sequence[int], token: int) -> str:
        """A token's characters after another token; some tokenizers begin it with a space there."""
        return decode([*before, token])[len(decode(before)) :] or HALF

    tokens = list(known)
    for i in range(len(known), answer.tokens_written):
        start, before = len(decode(ids[:i])), ids[max(i - 1, 0) : i]
        if start >= len(answer.text):
            break
        ranked = zip(scores.likeliest[i, :likeliest].tolist(), scores.of_likeliest[i, :likeliest].tolist())
        others = tuple((piece(before, token), score) for token, score in ranked)
        tokens.append(Token(piece(before, ids[i]), start, float(scores.chosen[i]), others))
    return tuple(tokens)


def _until_stop(ids: Sequence[int], stops: Sequence[str], decode: Decode) -> tuple[int, str]:
    """How many tokens it takes until one of the stop texts is there, and the text in front of it."""
    for length in range(1, len(ids) + 1):
        text = decode(ids[:length])
        if found := [text.index(stop) for stop in stops if stop in text]:
            return length, text[: min(found)]
    raise AssertionError("no stop text is there")


def _begun(stop: str, text: str) -> int:
    """How many characters at the end of a text may be the beginning of a stop text.

    >>> _begun("###", "so: ##"), _begun("###", "so")
    (2, 0)
    """
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
