"""What every backbone offers, and where it stands while it writes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.models.attention import Memory
from mpt.models.layers import Weight
from mpt.types import Batch, Layout, Output


class State(NamedTuple):
    """How far each row's text has been written.

    Attributes:
        memory: what the decoding stack has read, with room for more.
        position: where each row's next token stands.
        slot: where the next token is kept in the memory, the same for all rows.
        encoded: what an encoder-decoder made of the inputs; None for a decoder.
    """

    memory: Memory
    position: Int[Array, " B"]
    slot: Int[Array, ""]
    encoded: Any = None

    def rows(self, index: Int[Array, " B"]) -> State:
        """The state of other rows: ``index`` says which of these each of those continues."""
        encoded = None if self.encoded is None else self.encoded.rows(index)
        return State(self.memory.rows(index), self.position[index], self.slot, encoded)


@runtime_checkable
class Backbone(Protocol):
    """A frozen language model: prompts and texts in, logits and hidden states out.

    Attributes:
        layout: how a row's inputs and targets are laid out; see ``mpt.data.batches``.
        dtype: type of the activations.
    """

    layout: Layout
    dtype: jnp.dtype

    @property
    def embedding(self) -> Weight:
        """The token table, [V, D], as it is stored; ``embed`` gives its rows as they are used."""
        ...

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        """Tokens as the first layer sees them; what a soft prompt stands in for."""
        ...

    def __call__(
        self, batch: Batch, prompts: Float[Array, "J P D"], shift: Float[Array, "N D"] | None = None
    ) -> Output:
        """Reads each row behind its prompt; logits at the label positions.

        Args:
            shift: is added to the embeddings of ``batch.tokens``.
        """
        ...

    def start(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        room: int,
        shift: Float[Array, "N D"] | None = None,
    ) -> tuple[Float[Array, "B V"], State]:
        """Reads each row's inputs behind its prompt: the first logits, and ``room`` for more tokens."""
        ...

    def step(self, tokens: Int[Array, " B"], state: State) -> tuple[Float[Array, "B V"], State]:
        """Reads one more token per row: the logits of the next."""
        ...
