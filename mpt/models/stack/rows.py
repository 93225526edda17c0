"""Rows that lie end to end without padding, and the grid with one row to a line that they attend in."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.models.attention import gather


class Rows(NamedTuple):
    """Where the positions of an encoder's rows are.

    Attributes:
        grid: the place, among all positions end to end, of each position of each row; beyond them at padding.
        cells: its inverse.
    """

    grid: Int[Array, "B T"]
    cells: Int[Array, " S"]

    @property
    def real(self) -> Array:
        """True where a cell of the grid is no padding, [B, T]."""
        return self.grid < len(self.cells)

    @property
    def lengths(self) -> Int[Array, " B"]:
        """Positions of each row."""
        return jnp.sum(self.real, axis=1)

    @property
    def positions(self) -> Int[Array, " S"]:
        """The position in its row of each that lies end to end."""
        return self.cells % self.grid.shape[1]

    def to_grid(self, flat: Float[Array, "S ..."]) -> Float[Array, "B T ..."]:
        """One row to a line; zeros at padding."""
        return gather(flat, self.grid, self.cells)

    def to_flat(self, cells: Float[Array, "B T ..."]) -> Float[Array, "S ..."]:
        """All rows end to end."""
        return gather(cells.reshape(-1, *cells.shape[2:]), self.cells, self.grid)
