"""Examples become arrays: tokenised once, cut to length, padded to a few lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Example
from mpt.models.output import Output

# How inputs and targets meet: one text, or the encoder's and the decoder's.
Layout = Literal["decoder", "encoder-decoder"]


class Row(NamedTuple):
    """One tokenised example.

    Attributes:
        inputs: token ids of the input text.
        targets: token ids of the target.
        choices: token ids of each choice; empty for free text.
        label: the target's place among the choices; -1 for free text.
        number: its own among all rows of a training run.
    """

    inputs: list[int]
    targets: list[int]
    choices: tuple[list[int], ...] = ()
    label: int = -1
    number: int = 0


class Batch(NamedTuple):
    """Rows as arrays; what a backbone reads and a loss needs.

    The texts lie end to end, so that no work is done on padding. Only attention goes row by row: it
    spreads the tokens over a grid, a row to a line.

    Attributes:
        tokens: ids of all texts, inputs then targets; for an encoder-decoder the inputs. Filled up.
        grid: where in ``tokens`` each cell's token stands; N where a row has ended.
        cells: the other way round: each token's cell in the flattened grid; B·T for what fills up.
        positions: where each target token is predicted: in ``tokens``, or in a decoder's own text.
        targets: the target ids.
        labelled: True at real targets.
        prompt_index: each row's prompt.
        numbers: each row's number.
        taught: what the rows' teachers make of them, where that is known already.
    """

    tokens: Int[Array, " N"]
    grid: Int[Array, "B T"]
    cells: Int[Array, " N"]
    positions: Int[Array, "B L"]
    targets: Int[Array, "B L"]
    labelled: Bool[Array, "B L"]
    prompt_index: Int[Array, " B"]
    numbers: Int[Array, " B"]
    taught: Output | None = None

    @property
    def text(self) -> Bool[Array, " N"]:
        """True at real tokens."""
        return jnp.asarray(self.cells < self.grid.size)

    @property
    def filled(self) -> Bool[Array, "B T"]:
        """True at the grid's real tokens."""
        return jnp.asarray(self.grid < self.tokens.size)


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


def bucket(count: int, parts: int) -> int:
    """The next of a few sizes: 16, and ``parts`` between each power of two and the next.

    Each distinct size is compiled once; at most one part in ``parts`` is wasted.

    >>> [bucket(count, 4) for count in (3, 16, 17, 32, 33)]
    [16, 16, 20, 32, 40]
    """
    step = max(2 ** ((max(count, 16) - 1).bit_length() - 1) // parts, 1)
    return max(-(-count // step) * step, 16)


class Sizes(NamedTuple):
    """The lengths of a batch's axes, rounded up: N tokens, T cells to a row, L targets."""

    tokens: int
    cells: int
    targets: int

    @classmethod
    def of(cls, rows: Sequence[Row], layout: Layout) -> Sizes:
        lengths = [len(_text(row, layout)) for row in rows]
        # Padding costs a cell of the grid little, a token much.
        return cls(bucket(sum(lengths), 8), bucket(max(lengths), 2), max(len(row.targets) for row in rows))


def _text(row: Row, layout: Layout) -> list[int]:
    """What is read of a row. A decoder reads its targets too, but for the last: that is predicted."""
    return [*row.inputs, *row.targets[:-1]] if layout == "decoder" else row.inputs


def collate(
    rows: Sequence[Row],
    prompt_index: Sequence[int],
    layout: Layout = "decoder",
    sizes: Sizes | None = None,
) -> Batch:
    """Lays rows end to end; ``sizes`` are their own where left out."""
    count, length, width = sizes or Sizes.of(rows, layout)
    texts = [_text(row, layout) for row in rows]
    lengths, ids = [len(text) for text in texts], [token for text in texts for token in text]
    starts, places = np.cumsum(lengths) - lengths, np.arange(length)
    grid = np.where(places < np.array(lengths)[:, None], starts[:, None] + places, count)
    tokens, cells = np.zeros(count, np.int32), np.full(count, grid.size, np.int32)
    tokens[: len(ids)], cells[: len(ids)] = ids, np.flatnonzero(grid < count)
    positions, targets = np.zeros((2, len(rows), width), np.int32)
    labelled = np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        own = np.arange(len(row.targets))
        positions[i, own] = own + (starts[i] + len(row.inputs) - 1 if layout == "decoder" else 0)
        targets[i, own], labelled[i, own] = row.targets, True
    index, numbers = np.array([prompt_index, [row.number for row in rows]], np.int32)
    arrays: Any = (tokens, grid.astype(np.int32), cells, positions, targets, labelled, index, numbers)
    return Batch(*arrays)  # NumPy's arrays on the host; a step sees JAX's


def collate_parts(
    rows: Sequence[Row], prompt_index: Sequence[int], parts: int, layout: Layout = "decoder"
) -> Batch:
    """``parts`` batches of one size, stacked; every part-th row is in the same."""
    shares = [rows[part::parts] for part in range(parts)]
    sizes = Sizes(*map(max, zip(*(Sizes.of(share, layout) for share in shares))))
    batches = [collate(shares[part], prompt_index[part::parts], layout, sizes) for part in range(parts)]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *batches)
