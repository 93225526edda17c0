"""The interface of every frozen backbone, and the state of its decoding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.errors import UserError
from mpt.models.attention import KV, KVCache
from mpt.models.layers import Weight
from mpt.models.stack.delta_rule import DeltaState
from mpt.types import Batch, Ids, Layout, Output


class DecodingState(NamedTuple):
    """How far the text of each row has been decoded.

    Attributes:
        cache: the KV cache of the decoding stack, with spare slots for the tokens to come.
        position: the position of each row's next token.
        slot: the slot of the cache that the next token goes to, the same for all rows.
        encoded: what an encoder-decoder has encoded of the inputs; None for a decoder.
        first: the first position that each layer attends to, by kind; None where all attend to the prompt.
        deltas: the states of layers with the delta rule, by kind, with a leading axis of layers.
    """

    cache: KVCache
    position: Int[Array, " B"]
    slot: Int[Array, ""]
    encoded: Any = None
    first: dict[str, Int[Array, " layers"]] | None = None
    deltas: dict[str, DeltaState] = {}  # noqa: RUF012, never changed

    def take_rows(self, index: Int[Array, " B"]) -> DecodingState:
        """The state of the rows that ``index`` names."""
        encoded = None if self.encoded is None else self.encoded.take_rows(index)
        return self._replace(
            cache=self.cache.take_rows(index),
            position=self.position[index],
            encoded=encoded,
            deltas={kind: delta.take_rows(index, axis=1) for kind, delta in self.deltas.items()},
        )


def check_positions(backbone: Backbone, prompt: int, max_length: int, targets: Iterable[Ids] = ()) -> None:
    """Refuses rows that are longer than the positions which a backbone has.

    Args:
        prompt: number of positions in front of a text.
        max_length: the most tokens of an input.
        targets: the tokens of targets, of which the longest counts; they are not read without need.

    Raises:
        UserError: together they are more than there are.
    """
    there = backbone.positions
    target = max(map(len, targets), default=1) if there else 0
    if there and prompt + max_length + target > there:
        room = there - prompt - target
        remedy = f"set max_length to at most {room}" if room > 0 else "take a shorter prompt"
        raise UserError(
            f"the model has {there} positions; a prompt of {prompt}, an input of max_length "
            f"{max_length} and a target of {target} take {prompt + max_length + target}: {remedy}"
        )


def prefix_shape(backbone: Backbone) -> tuple[int, int, int]:
    """The shape of a prefix of keys and values; see ``Backbone.kv_shape``.

    Raises:
        UserError: there is none that all layers could have.
    """
    if (shape := backbone.kv_shape) is None:
        raise UserError(
            "prefix tuning: this model's layers are of several kinds, and have no keys and values of one "
            "shape; take another method"
        )
    return shape


@runtime_checkable
class Backbone(Protocol):
    """A frozen language model: prompts and texts in, logits and hidden states out.

    Attributes:
        layout: how a row's inputs and targets are laid out; see ``mpt.data.batches``.
        dtype: the type of its activations.
        opening: tokens that it reads in front of every prompt; none where prompts come first.
    """

    layout: Layout
    dtype: jnp.dtype
    opening: tuple[int, ...]

    @property
    def embedding(self) -> Weight:
        """The embedding table, [V, D], as it is stored; ``embed`` gives its rows as the layers see them."""
        ...

    @property
    def kv_shape(self) -> tuple[int, int, int] | None:
        """The number of decoding layers, and the number and width of the key and value heads in each; None
        where layers are of several kinds, which have not all keys and values of one shape."""
        ...

    @property
    def positions(self) -> int:
        """The number of positions beyond which no text may go, as they are not learned, or would be rotated
        otherwise; 0 where there is no such bound."""
        ...

    @property
    def depth(self) -> int:
        """The number of layers that a prompt's vectors may enter before, from the first of their stack on."""
        ...

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        """The embeddings of tokens as the first layer sees them; a soft prompt has vectors in their place."""
        ...

    def output_embeddings(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        """What final hidden states are multiplied by to give the logits of tokens, in float32."""
        ...

    def lower(
        self, batch: Batch, layer: int, prompt_length: int, shift: Float[Array, "N D"] | None = None
    ) -> Float[Array, "N D"]:
        """The hidden states of the texts alone before a layer.

        Args:
            prompt_length: positions that the prompt has in front of each text, which are left free.
        """
        ...

    def lower_vectors(self, vectors: Float[Array, "J P D"], layer: int) -> Float[Array, "J P D"]:
        """The hidden states before a layer of embedded texts, each by itself, from the first position on."""
        ...

    def __call__(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        shift: Float[Array, "N D"] | None = None,
        prefix_kv: KV | None = None,
        layer: int = 0,
    ) -> Output:
        """Runs each row with its prompt in front; logits at the label positions only.

        Args:
            batch: the rows; ``batch.prompt_index`` says which prompt each of them has.
            prompts: the distinct prompts of the batch.
            shift: added to the embeddings of ``batch.tokens``.
            prefix_kv: keys and values [layers, J, P, K, H] of every decoding layer in front of each prompt,
                at the first positions of its rows; None: there are none.
            layer: the layer before which the prompts are put in front of the texts' hidden states
                (Liu et al., Findings of EMNLP 2022); ``prefix_kv`` are those of the layers from it on. Texts
                have the same positions below, where they stand alone. ``batch.states`` are their states
                there, if they are known. Prompts are hidden states then: no position is added to them.
        """
        ...

    def prefill(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        spare_slots: int,
        shift: Float[Array, "N D"] | None = None,
        prefix_kv: KV | None = None,
        layer: int = 0,
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Runs each row's inputs with its prompt in front.

        Args:
            spare_slots: number of empty slots in the cache, for the tokens to be decoded.

        Returns:
            The logits of each row's first new token, and the state from which decoding continues.
        """
        ...

    def decode_step(
        self, tokens: Int[Array, " B"], state: DecodingState
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Runs one more token of each row; the logits of the next one, and the state after it."""
        ...
