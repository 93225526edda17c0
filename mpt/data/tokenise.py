"""Tokenises examples into rows of token ids, truncated to a maximum length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from mpt.data.task import Example
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
            never words of the template.
        layout: whether the model is a decoder or an encoder-decoder.
    """
    end: Any = tokenizer.eos_token_id
    space, ending = (" ", []) if layout == "decoder" else ("", [end])
    words = sorted({word for example in examples for word in (example.target, *example.choices)})
    spelled = _ids(tokenizer, [space + word for word in words])
    spelling = {word: [*tokens, *ending] for word, tokens in zip(words, spelled)}
    rows = []
    for example, inputs in zip(examples, _ids(tokenizer, [example.inputs for example in examples])):
        if len(inputs) > max_length - len(ending):
            inputs = _shortened(example, tokenizer, max_length - len(ending))
        inputs, target = [*inputs, *ending], spelling[example.target]
        if example.choices:
            choices = tuple(spelling[word] for word in example.choices)
            rows.append(Row(inputs, target, choices, example.label, scoring=example.scoring))
        else:
            rows.append(Row(inputs, target if ending else [*target, end]))
    return rows


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that determines a tokenizer's output: its vocabulary, rules and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    serialised = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(serialised.encode()).hexdigest()


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: Any = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return ids


def _shortened(example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[int]:
    """The token ids of an input whose longest field is cut at the end until the input fits."""
    fields = dict(example.fields)
    while True:
        inputs = _ids(tokenizer, [replace(example, fields=fields).inputs])[0]
        longest = max(fields, key=lambda name: len(fields[name]))
        if len(inputs) <= max_length or not fields[longest]:
            return inputs[-max_length:]
        kept = _ids(tokenizer, [fields[longest]])[0]
        cut: Any = tokenizer.decode(kept[: max(0, len(kept) - (len(inputs) - max_length))])
        fields[longest] = cut if len(cut) < len(fields[longest]) else fields[longest][:-1]
