"""The texts of a batch, which lie end to end, and the grid with one row to a line that they are mixed in."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.models.attention import NOWHERE, gather
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import Layer
from mpt.models.stack.delta_rule import DeltaState, Inputs, read_rows
from mpt.models.text_places import TextPlaces
from mpt.types import Batch


class Texts(NamedTuple):
    """Where the tokens of a batch's texts are.

    Attributes:
        grid: the index of each cell's token.
        cells: the index of each token's cell.
        lengths: cells of each row that are no padding.
        places: where they stand in their rows.
    """

    grid: Int[Array, "B T"]
    cells: Int[Array, " N"]
    lengths: Int[Array, " B"]
    places: TextPlaces

    @classmethod
    def of(cls, batch: Batch) -> Texts:
        return cls(batch.grid, batch.cells, jnp.sum(batch.filled, axis=1), TextPlaces.of(batch))

    def to_grid(self, flat: Float[Array, "N ..."]) -> Float[Array, "B T ..."]:
        """One row to a line; zeros at padding."""
        return gather(flat, self.grid, self.cells)

    def to_flat(self, cells: Float[Array, "B T ..."]) -> Float[Array, "N ..."]:
        """All rows end to end."""
        return gather(cells.reshape(-1, *cells.shape[2:]), self.cells, self.grid)

    def read(
        self, spec: DecoderSpec, w: Layer, inputs: Inputs, before: DeltaState | None
    ) -> tuple[Float[Array, "B T N H"], DeltaState]:
        """Runs the delta rule over the grid, from the states ``before`` the rows; see ``read_rows``."""
        places = self.places
        seen = None if places.seen is None else places.mask(jnp.asarray(NOWHERE))[:, 0]
        return read_rows(w, spec.activation, inputs, before, self.lengths, seen, places.columns)
