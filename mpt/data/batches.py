"""Examples become arrays: tokenised once, cut to length, padded to a few lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Example

# Text lengths that batches are padded to: each distinct one is compiled once.
BUCKETS = (16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)

# How inputs and targets meet: one text, or the encoder's and the decoder's.
Layout = Literal["decoder", "encoder-decoder"]


class Row(NamedTuple):
    """One tokenised example.

    Attributes:
        inputs: token ids of the input text.
        targets: token ids of the target.
        choices: token ids of each choice; empty for free text.
        label: the target's place among the choices; -1 for free text.
    """

    inputs: list[int]
    targets: list[int]
    choices: tuple[list[int], ...] = ()
    label: int = -1


class Batch(NamedTuple):
    """Rows as arrays; what a backbone reads and a loss needs.

    Attributes:
        tokens: text ids, inputs then targets, padded on the right; for an encoder-decoder the inputs.
        text: True at real tokens.
        positions: where each target token is predicted: in ``tokens``, or in a decoder's own text.
        targets: the target ids.
        labelled: True at real targets.
        prompt_index: each row's prompt.
    """

    tokens: Int[Array, "B T"]
    text: Bool[Array, "B T"]
    positions: Int[Array, "B L"]
    targets: Int[Array, "B L"]
    labelled: Bool[Array, "B L"]
    prompt_index: Int[Array, " B"]


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    layout: Layout = "decoder",
) -> list[Row]:
    """Tokenises examples.

    For a decoder, targets follow the input after a space; class words end there, and free text ends
    with the end-of-text token. For an encoder-decoder, inputs and targets are texts of their own, and
    all of them end with that token.

    Args:
        max_length: most tokens of an input; a longer one loses the end of its longest field, never
            the template's words.
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
            rows.append(Row(inputs, target, tuple(spelling[word] for word in example.choices), example.label))
        else:
            rows.append(Row(inputs, target if ending else [*target, end]))
    return rows


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: Any = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return ids


def _shortened(example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[int]:
    """The input's ids, with its longest field cut at the end until it fits."""
    fields = dict(example.fields)
    while True:
        inputs = _ids(tokenizer, [replace(example, fields=fields).inputs])[0]
        longest = max(fields, key=lambda name: len(fields[name]))
        if len(inputs) <= max_length or not fields[longest]:
            return inputs[-max_length:]
        kept = _ids(tokenizer, [fields[longest]])[0]
        cut: Any = tokenizer.decode(kept[: max(0, len(kept) - (len(inputs) - max_length))])
        fields[longest] = cut if len(cut) < len(fields[longest]) else fields[longest][:-1]


def bucket(length: int) -> int:
    """The padded length of a batch whose longest row has ``length`` tokens."""
    return next((size for size in BUCKETS if size >= length), -(-length // BUCKETS[-1]) * BUCKETS[-1])


def collate(rows: Sequence[Row], prompt_index: Sequence[int], layout: Layout = "decoder") -> Batch:
    """Pads rows to one bucket. The last target token is predicted, so it is not among the tokens."""
    joint = layout == "decoder"
    texts = [[*row.inputs, *row.targets[:-1]] if joint else row.inputs for row in rows]
    length, width, size = bucket(max(map(len, texts))), max(len(row.targets) for row in rows), len(rows)
    tokens, text = np.zeros((size, length), np.int32), np.zeros((size, length), bool)
    positions, targets = np.zeros((size, width), np.int32), np.zeros((size, width), np.int32)
    labelled = np.zeros((size, width), bool)
    for i, (row, ids) in enumerate(zip(rows, texts)):
        count = len(row.targets)
        tokens[i, : len(ids)], text[i, : len(ids)] = ids, True
        positions[i, :count] = (len(row.inputs) - 1 if joint else 0) + np.arange(count)
        targets[i, :count], labelled[i, :count] = row.targets, True
    arrays: Any = (tokens, text, positions, targets, labelled, np.asarray(prompt_index, np.int32))
    return Batch(*arrays)  # NumPy's arrays on the host; a step sees JAX's
