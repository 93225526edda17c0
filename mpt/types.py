"""What travels: a tokenised row, a batch of rows as arrays, and what a backbone makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# How inputs and targets meet: one text, or the encoder's and the decoder's.
Layout = Literal["decoder", "encoder-decoder"]


Ids = Sequence[int] | Int[np.ndarray, " ids"]


class Row(NamedTuple):
    """One tokenised example.

    Attributes:
        inputs: token ids of the input text.
        targets: token ids of the target.
        choices: token ids of each choice; empty for free text.
        label: the target's place among the choices; -1 for free text.
        number: its own among all rows of a training run.
    """

    inputs: Ids
    targets: Ids
    choices: tuple[Ids, ...] = ()
    label: int = -1
    number: int = 0


class Output(NamedTuple):
    """Logits where a label is, and the final hidden states of each stack.

    Attributes:
        logits: [B, L, V], float32, at the label positions only.
        hidden: final hidden states without the prompts': those of ``Batch.tokens``, [N, D], and of
            an encoder-decoder also the targets', [B, L, D].
    """

    logits: Float[Array, "B L V"]
    hidden: tuple[Float[Array, "... D"], ...]


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


@dataclass(frozen=True)
class Shards:
    """Those of a batch's ``count`` shards that a process reads."""

    own: tuple[int, ...]
    count: int
