"""What a backbone returns."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Float


class Output(NamedTuple):
    """Logits where a label is, and the final hidden states of each stack.

    Attributes:
        logits: [B, L, V], float32, at the label positions only.
        hidden: final hidden states without the prompts': those of ``Batch.tokens``, [N, D], and of
            an encoder-decoder also the targets', [B, L, D].
    """

    logits: Float[Array, "B L V"]
    hidden: tuple[Float[Array, "... D"], ...]
