"""Tokenises examples into rows of token ids, truncated to a maximum length."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Example
from mpt.errors import UserError, warn_once
from mpt.types import Layout, Row


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    layout: Layout = "decoder",
) -> list[Row]:
    """Tokenises examples into rows.

    For a decoder, the target follows the input after a space; free text ends with the end-of-text token,
    class words do not. For an encoder-decoder, inputs and targets are separate texts, and all of them end
    with that token.

    Args:
        max_length: maximum number of tokens of an input; a longer one loses the end of its longest field,
            never words of the template, nor half a character.
        layout: whether the model is a decoder or an encoder-decoder.

    Raises:
        UserError: the template's own words leave no room for a text.
    """
    end: Any = tokenizer.eos_token_id
    space, ending = (" ", []) if layout == "decoder" else ("", [end])
    words = sorted({word for example in examples for word in (example.target, *example.choices)})
    spelled = _ids(tokenizer, [space + word for word in words])
    spelling = {word: [*tokens, *ending] for word, tokens in zip(words, spelled)}
    rows = []
    for example, inputs in zip(examples, _ids(tokenizer, [example.inputs for example in examples])):
        whole = len(inputs)
        if whole > max_length - len(ending):
            inputs = _shortened(example, tokenizer, max_length, len(ending))
        lost = whole - len(inputs)
        inputs, target = [*inputs, *ending], spelling[example.target]
        if example.choices:
            choices = tuple(spelling[word] for word in example.choices)
            rows.append(Row(inputs, target, choices, example.label, scoring=example.scoring, lost=lost))
        else:
            rows.append(Row(inputs, target if ending else [*target, end], lost=lost))
    return rows


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that determines a tokenizer's output: its vocabulary, rules and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    serialised = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(serialised.encode()).hexdigest()


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of token ids; half a character at its end, where the ids were cut, is left out."""
    return str(tokenizer.decode([*ids])).rstrip("\ufffd")


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: Any = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return ids


def warn_of_cut(name: str, lost: Sequence[int] | Int[np.ndarray, " R"], max_length: int) -> None:
    """Says, once, how many of some rows were cut, and by how much.

    Args:
        name: what the rows are.
        lost: how many tokens each of them lost.
    """
    if cut := [int(count) for count in lost if count]:
        mean = round(sum(cut) / len(cut))
        warn_once(
            f"{len(cut)} of {len(lost)} {name} are longer than max_length, {max_length} tokens, and are cut: "
            f"they lose {mean} tokens on average, {max(cut)} at most"
        )


def _shortened(
    example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int, ending: int
) -> list[int]:
    """The token ids of an input whose longest field is cut at the end until it fits before the ending."""
    fields, room = dict(example.fields), max_length - ending
    bare = len(_ids(tokenizer, [replace(example, fields=dict.fromkeys(fields, "")).inputs])[0])
    if bare >= room:
        raise UserError(
            f"max_length is {max_length}, and the template's own words take {bare + ending} tokens: nothing "
            f"of a text is left; raise max_length, or shorten the template {example.template!r:.60}"
        )
    while True:
        inputs = _ids(tokenizer, [replace(example, fields=fields).inputs])[0]
        longest = max(fields, key=lambda name: len(fields[name]))
        if len(inputs) <= room or not fields[longest]:
            return inputs
        cut = _beginning(fields[longest], tokenizer, len(inputs) - room)
        fields[longest] = cut if len(cut) < len(fields[longest]) else fields[longest][:-1]


def _beginning(text: str, tokenizer: PreTrainedTokenizerBase, excess: int) -> str:
    """A text without its last ``excess`` tokens, in whole characters and without a blank at its end."""
    if tokenizer.is_fast:
        starts: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text[: starts[-excess][0]].rstrip() if excess <= len(starts) else ""
    kept = len(_ids(tokenizer, [text])[0]) - excess
    lengths = range(len(text) + 1)
    longest = bisect(lengths, kept, key=lambda length: len(_ids(tokenizer, [text[:length]])[0])) - 1
    return text[: max(longest, 0)].rstrip()
