"""What a prompt offers: all that stands before a batch's texts, or is added to them."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.models.backbone import Backbone
from mpt.types import Batch


class Prefix(NamedTuple):
    """A batch's prompts.

    Attributes:
        vectors: the prompts, those of tasks or those of rows.
        prompt_index: which of them each row reads.
        shift: what is added to the embedded text tokens.
    """

    vectors: Float[Array, "J P D"]
    prompt_index: Int[Array, " B"]
    shift: Float[Array, "N D"] | None = None


@runtime_checkable
class Prompt(Protocol):
    """What every prompt offers."""

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix: ...

    def extent(self, rows: int) -> tuple[int, int]:
        """How many prompts a step of so many rows computes, and the vectors of each."""
        ...


class PlainPrompt(nnx.Module):
    """A prompt that looks at no text: free vectors in front of it, however they are made."""

    @abstractmethod
    def compose(self) -> Float[Array, "J P D"]:
        """One ready prompt per task."""

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        return Prefix(self.compose(), batch.prompt_index)

    def extent(self, rows: int) -> tuple[int, int]:
        prompts, length, _ = nnx.eval_shape(lambda prompt: prompt.compose(), self).shape
        return prompts, length


def places(batch: Batch) -> tuple[Int[Array, " N"], Int[Array, " N"]]:
    """Each token's row, and its place in that row's text; what fills up counts as the last row's."""
    row, place = jnp.divmod(batch.cells, batch.grid.shape[1])
    return jnp.minimum(row, len(batch.grid) - 1), place


def of_inputs(batch: Batch, backbone: Backbone) -> Bool[Array, " N"]:
    """True at the rows' inputs. A decoder reads targets behind them, which no prompt may look at."""
    if backbone.layout == "encoder-decoder":
        return batch.text
    last = jnp.asarray(batch.positions)[places(batch)[0], 0]
    return batch.text & (jnp.arange(batch.tokens.size) <= last)
