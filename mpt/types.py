"""The data types that all modules share: a tokenised row, a batch of rows, and a backbone's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# Whether inputs and targets form one text, or the encoder's text and the decoder's.
Layout = Literal["decoder", "encoder-decoder"]


Ids = Sequence[int] | Int[np.ndarray, " ids"]


class Row(NamedTuple):
    """One tokenised example.

    Attributes:
        inputs: token ids of the input text.
        targets: token ids of the target.
        choices: token ids of each choice; empty for free text.
        label: the index of the target among the choices; -1 for free text.
        number: the row's index among all rows of a training run.
    """

    inputs: Ids
    targets: Ids
    choices: tuple[Ids, ...] = ()
    label: int = -1
    number: int = 0


class Output(NamedTuple):
    """The output of a backbone: logits at the targets, and final hidden states.

    Attributes:
        logits: float32 logits that predict the targets, [B, L, V].
        hidden: final hidden states, without those of the prompts: of ``Batch.tokens``, [N, D], and for an
            encoder-decoder also of the targets, [B, L, D].
    """

    logits: Float[Array, "B L V"]
    hidden: tuple[Float[Array, "... D"], ...]


class Batch(NamedTuple):
    """Rows as arrays, for a backbone and a loss.

    All texts lie end to end, so that almost no work is done on padding. Only attention needs rows: for it,
    the tokens are arranged in a grid with one row of the batch per line.

    Attributes:
        tokens: token ids of all texts, end to end and padded: of each row the input, and for a decoder also
            the target.
        grid: the index in ``tokens`` of each cell's token; N in cells that are padding.
        cells: the inverse: the index in the flattened grid of each token; padding tokens get B·T.
        positions: the index of the token whose output predicts each target: in ``tokens`` for a decoder, in
            the decoder's text for an encoder-decoder.
        targets: token ids of the targets, padded.
        labelled: True at real targets, False at padding.
        prompt_index: the index of each row's prompt.
        numbers: the number of each row; see ``Row``.
        taught: the teachers' output for these rows, if it has been computed already.
        states: the hidden states of ``tokens`` before the layer where the prompt enters, if they have been.
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
    states: Float[Array, "N D"] | None = None

    @property
    def text(self) -> Bool[Array, " N"]:
        """True at real tokens, False at padding."""
        return jnp.asarray(self.cells < self.grid.size)

    @property
    def filled(self) -> Bool[Array, "B T"]:
        """True in cells of the grid that hold a token, False at padding."""
        return jnp.asarray(self.grid < self.tokens.size)


@dataclass(frozen=True)
class Shards:
    """The shards of a batch that one process reads.

    Attributes:
        indices: which of the shards.
        count: how many shards a batch has in all.
    """

    indices: tuple[int, ...]
    count: int
