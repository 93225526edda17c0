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
        scoring: how the choices are scored.
        lost: how many tokens of the text were cut.
    """

    inputs: Ids
    targets: Ids
    choices: tuple[Ids, ...] = ()
    label: int = -1
    number: int = 0
    scoring: Literal["sum", "mean"] = "sum"
    lost: int = 0

    def without_words(self) -> Row:
        """The same row for a class head, which scores the classes without reading their words."""
        return self._replace(choices=((0,),) * len(self.choices))


class Output(NamedTuple):
    """The output of a backbone: logits at the targets, final hidden states, and scores of the classes.

    Attributes:
        logits: float32 logits that predict the targets, [B, L, V].
        hidden: final hidden states, without those of the prompts: of ``Batch.tokens``, [N, D], and for an
            encoder-decoder also of the targets, [B, L, D].
        classes: the score of each class word, its tokens' log-probabilities summed or averaged; -inf beyond a
            row's last. None where the batch has no class trees.
        roots: the final hidden state that each row's class words follow; None where there are none.
    """

    logits: Float[Array, "B L V"]
    hidden: tuple[Float[Array, "... D"], ...]
    classes: Float[Array, "B C"] | None = None
    roots: Float[Array, "B D"] | None = None


class ClassTree(NamedTuple):
    """The class words of a batch's rows as trees of tokens; ``mpt.data.class_tree`` makes it.

    The inner nodes come after the text that the class words follow: a decoder's in ``Batch.tokens``, an
    encoder-decoder's in the decoder's text. That has T cells in each row, text and nodes together.

    Attributes:
        columns: the position of each cell in its row's text: of a node, where it would stand if the tokens of
            its ancestors were the only ones between it and the text.
        seen: True where the first of two cells may attend to the second, if that is not at a later position.
        lengths: number of tokens of each row's text in ``Batch.tokens``, without nodes.
        nodes: token ids of the inner nodes; none for a decoder.
        branches: the index of the output at each root, which are as many as rows, then at each other node, in
            ``Batch.tokens`` or in the flattened cells of the decoder's text.
        parents: the index in ``branches`` of where each edge begins.
        tokens: the token of each edge.
        paths: the edges of each class word; E in padding.
        scale: what the log-probability of each class word is multiplied by; 0 beyond a row's last class.
        labels: the class of each row; without meaning in rows that have none.
    """

    columns: Int[Array, "B T"]
    seen: Bool[Array, "B T T"]
    lengths: Int[Array, " B"]
    nodes: Int[Array, "B W"]
    branches: Int[Array, " K"]
    parents: Int[Array, "B E"]
    tokens: Int[Array, "B E"]
    paths: Int[Array, "B C steps"]
    scale: Float[Array, "B C"]
    labels: Int[Array, " B"]

    @property
    def real(self) -> Bool[Array, "B C"]:
        """True at the classes that a row has."""
        return jnp.asarray(self.scale > 0)


class Batch(NamedTuple):
    """Rows as arrays, for a backbone and a loss.

    All texts lie end to end, so that almost no work is done on padding. Only attention needs rows: for it,
    the tokens are arranged in a grid with one row of the batch per line.

    Attributes:
        tokens: token ids of all texts, end to end and padded: of each row the input, and for a decoder also
            the target, or the inner nodes of its class tree.
        grid: the index in ``tokens`` of each cell's token; N in cells that are padding.
        cells: the inverse: the index in the flattened grid of each token; padding tokens get B·T.
        positions: the index of the token whose output predicts each target: in ``tokens`` for a decoder, in
            the decoder's text for an encoder-decoder. The first column has also rows without a target.
        targets: token ids of the targets, padded; a row with a class tree has none.
        labelled: True at real targets, False at padding.
        prompt_index: the index of each row's prompt.
        numbers: the number of each row; see ``Row``.
        taught: the teachers' output for these rows, if it has been computed already.
        classes: the class words of the rows, if these are to be scored.
        states: the hidden states of ``tokens`` before the layer where the prompt enters, if they have been
            computed already.
        hidden: True at positions of each row's prefix and prompt that its text must not attend to, in order;
            None: it attends to all.
    """

    tokens: Int[Array, " N"]
    grid: Int[Array, "B T"]
    cells: Int[Array, " N"]
    positions: Int[Array, "B _"]
    targets: Int[Array, "B L"]
    labelled: Bool[Array, "B L"]
    prompt_index: Int[Array, " B"]
    numbers: Int[Array, " B"]
    taught: Output | None = None
    classes: ClassTree | None = None
    states: Float[Array, "N D"] | None = None
    hidden: Bool[Array, "B S"] | None = None

    @property
    def text(self) -> Bool[Array, " N"]:
        """True at the tokens of texts, False at padding and at nodes of class trees."""
        real = jnp.asarray(self.cells < self.grid.size)
        if self.classes is None:
            return real
        row, column = jnp.divmod(self.cells, self.grid.shape[1])
        return real & (column < jnp.asarray(self.classes.lengths)[row])

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
