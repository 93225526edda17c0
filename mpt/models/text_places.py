"""The positions of the tokens of texts after their prompts, and which of them attend to which."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import KV, visible
from mpt.types import Batch


class TextPlaces(NamedTuple):
    """The positions of a batch's tokens in their rows' texts, counted without what precedes these.

    Attributes:
        columns: the place of each cell of the grid; of an inner node of a class tree, where it would stand if
            only its ancestors were between it and the text.
        of_tokens: the same of each of ``Batch.tokens``.
        seen: True where the first of two cells may attend to the second, if that is not later; None: always.
    """

    columns: Int[Array, "#B T"]
    of_tokens: Int[Array, " N"]
    seen: Bool[Array, "B 1 T T"] | None

    @classmethod
    def of(cls, batch: Batch) -> TextPlaces:
        width = batch.grid.shape[1]
        # Class words of one token have no inner nodes, and nothing is hidden from anything.
        if batch.classes is None or len(batch.classes.branches) == len(batch.grid):
            return cls(jnp.arange(width)[None], jnp.asarray(batch.cells % width), None)
        columns = jnp.asarray(batch.classes.columns)
        of_tokens = columns.reshape(-1).at[batch.cells].get(mode="fill", fill_value=0)
        return cls(columns, of_tokens, jnp.asarray(batch.classes.seen[:, None]))

    def mask(self, window: Int[Array, ""]) -> Bool[Array, "#B 1 T T"]:
        """Which cells attend to which, in a layer with this window."""
        mask = visible(self.columns, self.columns, window)
        return mask if self.seen is None else mask & self.seen


def prompt_positions(prompts: Float[Array, "J P D"], prefix_kv: KV | None) -> int:
    """The number of positions in front of each text."""
    return prompts.shape[1] + (prefix_kv.k.shape[-3] if prefix_kv else 0)
