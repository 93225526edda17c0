"""What an encoder has made of its texts, and how a decoder reads it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mpt.models.attention import KV, attend
from mpt.models.layers import Layer, matrix


class Encoded(NamedTuple):
    """The encoder's output, which the decoder's cross-attention reads.

    Attributes:
        hidden: the encoder's final hidden states.
        real: True at prompt and text, False at padding.
        kv: the keys and values [layers, B, S, K, H] of the cross-attention; None where few tokens are
            decoded, so that it is cheaper not to compute them.
    """

    hidden: Float[Array, "B S D"]
    real: Bool[Array, "B S"]
    kv: KV | None

    def take_rows(self, index: Array) -> Encoded:
        """The output of the rows that ``index`` names."""
        return Encoded(self.hidden[index], self.real[index], self.kv and self.kv.take_rows(index))

    def cross_attend(
        self, w: Layer, q: Float[Array, "B T N H"], kv: KV | None, scale: float, cap: float | None = None
    ) -> Float[Array, "B T N H"]:
        """The cross-attention of a layer's queries; ``kv`` are its part of ``self.kv``, if there is one.

        ``scale`` and ``cap`` are those of ``attend``.
        """
        mask = self.real[:, None, None]
        if kv:
            return attend(q, kv, mask, scale, cap)
        # q (x K)' is (q K') x', and a (x V) is (a x) V: x serves every head as keys and as values.
        q = _by_heads("btgrh,dgh->btgrd", q, matrix(w, "cross_k", q.dtype))
        x = self.hidden[:, :, None]
        attended = attend(q, KV(x, x), mask, scale, cap)
        return _by_heads("btgrd,dgh->btgrh", attended, matrix(w, "cross_v", q.dtype))


def _by_heads(
    formula: str, x: Float[Array, "B T N any"], w: Float[Array, "D K H"]
) -> Float[Array, "B T N other"]:
    """A product with the matrix of each key or value head, of the query heads that share it."""
    (rows, length, heads, width), groups = x.shape, w.shape[1]
    y = jnp.einsum(formula, x.reshape(rows, length, groups, heads // groups, width), w)
    return y.reshape(rows, length, heads, -1)
