"""Attention, and what it remembers.

A mask follows from positions alone: a query sees the keys at or before its own position, within the
layer's window. A slot that holds nothing stands at ``NOWHERE``, behind every query.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NOWHERE = 2**30


class KV(NamedTuple):
    """Keys and values, of one layer or, with a leading axis, of all."""

    k: Float[Array, "*Y B S K H"]
    v: Float[Array, "*Y B S K H"]


class Memory(NamedTuple):
    """What a stack of layers has read: every layer's keys and values, and where they stand."""

    kv: KV
    positions: Int[Array, "#B S"]

    def joined(self, later: Memory) -> Memory:
        """This memory followed by a later one."""
        kv = (jnp.concatenate(pair, axis=2) for pair in zip(self.kv, later.kv))
        return Memory(KV(*kv), join_positions(self.positions, later.positions))

    def rows(self, index: Int[Array, " B"]) -> Memory:
        """The memory of other rows: ``index`` says which of these each of those continues."""
        return Memory(KV(*(part[:, index] for part in self.kv)), self.positions[index])

    def with_room(self, room: int) -> Memory:
        """This memory followed by ``room`` empty slots."""
        kv = (jnp.pad(part, [(0, 0), (0, 0), (0, room), (0, 0), (0, 0)]) for part in self.kv)
        positions = jnp.pad(self.positions, [(0, 0), (0, room)], constant_values=NOWHERE)
        return Memory(KV(*kv), positions)

    def written(self, new: Memory, slot: Int[Array, ""]) -> Memory:
        """This memory with ``new`` in the slots from ``slot`` on."""
        kv = (jax.lax.dynamic_update_slice_in_dim(*parts, slot, axis=2) for parts in zip(self.kv, new.kv))
        positions = jax.lax.dynamic_update_slice_in_dim(self.positions, new.positions, slot, axis=1)
        return Memory(KV(*kv), positions)


def join_positions(first: Int[Array, "#B S"], second: Int[Array, "#B T"]) -> Int[Array, "#B S+T"]:
    rows = max(len(first), len(second))
    return jnp.concatenate(
        [jnp.broadcast_to(part, (rows, part.shape[1])) for part in (first, second)], axis=1
    )


def visible(
    queries: Int[Array, "#B T"], keys: Int[Array, "#B S"], window: int | Int[Array, ""] = NOWHERE
) -> Bool[Array, "#B 1 T S"]:
    """Who sees whom: each position itself and those before it, ``window`` of them in all.

    >>> visible(jnp.array([[2, 3]]), jnp.array([[0, 1, 2, 3, NOWHERE]]), window=2)[0, 0].astype(int)
    Array([[0, 1, 1, 0, 0],
           [0, 0, 1, 1, 0]], dtype=int32)
    """
    distance = queries[:, None, :, None] - keys[:, None, None, :]
    return (distance >= 0) & (distance < window)


def attend(
    q: Float[Array, "B T N H"],
    kv: KV,
    mask: Bool[Array, "#B 1 #T S"],
    scale: float,
    cap: float | None = None,
    bias: Float[Array, "#B N T S"] | None = None,
) -> Float[Array, "B T N H"]:
    """Softmax attention, through JAX's fused entry wherever that can express it.

    Args:
        scale: of the scores.
        cap: bound that a tanh keeps the scores within (Gemma 2); not fused.
        bias: added to the scores.
    """
    if cap is not None:
        return plain_attention(q, kv, mask, scale, cap, bias)
    return jax.nn.dot_product_attention(q, kv.k, kv.v, bias=bias, mask=mask, scale=scale)


def plain_attention(
    q: Float[Array, "B T N H"],
    kv: KV,
    mask: Bool[Array, "#B 1 #T S"],
    scale: float,
    cap: float | None = None,
    bias: Float[Array, "#B N T S"] | None = None,
) -> Float[Array, "B T N H"]:
    """The formula of ``attend`` written out, scores and softmax in float32: the tested reference."""
    k, v = (jnp.repeat(part, q.shape[2] // part.shape[2], axis=2) for part in kv)
    scores = scale * jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=jnp.float32)
    if cap is not None:
        scores = cap * jnp.tanh(scores / cap)
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), axis=-1)
    return jnp.einsum("bnts,bsnh->btnh", weights.astype(v.dtype), v)
