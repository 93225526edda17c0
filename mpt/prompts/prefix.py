"""The interface of prompts: vectors, or keys and values, before a batch's texts, or shifts of these."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import KV
from mpt.models.backbone import Backbone
from mpt.types import Batch, Row


class Prefix(NamedTuple):
    """The prompts of a batch.

    Attributes:
        vectors: the distinct prompts, one per task or one per row.
        prompt_index: the index of each row's prompt.
        shift: what is added to the embeddings of the text tokens.
        kv: keys and values [layers, J, P, K, H] of every layer from ``layer`` on, in front of the vectors.
        layer: the layer before which the prompts enter; see ``Backbone``.
    """

    vectors: Float[Array, "J P D"]
    prompt_index: Int[Array, " B"]
    shift: Float[Array, "N D"] | None = None
    kv: KV | None = None
    layer: int = 0


@runtime_checkable
class Prompt(Protocol):
    """The interface of every prompt.

    Attributes:
        layer: the layer before which it enters.
    """

    layer: int

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        """The prompts of a batch, and which of them each row has."""
        ...

    def extent(self, rows: int) -> tuple[int, int]:
        """The number of distinct prompts in a step of ``rows`` rows, and the length of each."""
        ...


@runtime_checkable
class Hiding(Protocol):
    """A prompt of which parts are hidden from training rows."""

    def hiding(self, rows: Sequence[Sequence[Row]]) -> Callable[[Batch], Batch]:
        """The function that completes each batch of ``rows``, those of each prompt, with what is hidden."""
        ...


class PlainPrompt(nnx.Module):
    """A prompt that does not depend on the text: vectors before it, composed in any way.

    They are prepended to the text's hidden states before ``layer``; 0: to its embeddings.
    """

    layer: int = 0

    @abstractmethod
    def compose(self) -> Float[Array, "J P D"]:
        """The prompt of each task."""

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        return Prefix(self.compose(), batch.prompt_index, layer=self.layer)

    def extent(self, rows: int) -> tuple[int, int]:
        prompts, length, _ = nnx.eval_shape(lambda prompt: prompt.compose(), self).shape
        return prompts, length


def places(batch: Batch) -> tuple[Int[Array, " N"], Int[Array, " N"]]:
    """The row of each token, and its position in that row's text; padding tokens count to the last row."""
    row, position = jnp.divmod(batch.cells, batch.grid.shape[1])
    return jnp.minimum(row, len(batch.grid) - 1), position


def of_inputs(batch: Batch, backbone: Backbone) -> Bool[Array, " N"]:
    """True at the tokens of the inputs; a decoder's targets come after them, and no prompt may use those."""
    if backbone.layout == "encoder-decoder":
        return batch.text
    last = jnp.asarray(batch.positions)[places(batch)[0], 0]
    return batch.text & (jnp.arange(batch.tokens.size) <= last)
