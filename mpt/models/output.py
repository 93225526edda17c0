"""What a backbone returns."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Float


class Output(NamedTuple):
    """Logits where a label is, and the final hidden states of each stack.

    Attributes:
        logits: [B, L, V], float32, at the label positions only.
        hidden: final hidden states of the text (prompt positions left out): one array [B, T, D]
            for a decoder; encoder's and decoder's for an encoder-decoder.
    """

    logits: Float[Array, "B L V"]
    hidden: tuple[Float[Array, "B T D"], ...]
