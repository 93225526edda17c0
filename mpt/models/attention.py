"""Attention, and what it remembers.

A mask follows from positions alone: a query sees the keys at or before its own position, within the
layer's window. A slot that holds nothing stands at ``NOWHERE``, behind every query.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mpt.sharding import on_one_device

NOWHERE = 2**30
LEAST = jnp.finfo(jnp.float32).min

# That rows are cut to: more waste less padding, and take longer to compile.
WIDTHS = 8


class KV(NamedTuple):
    """Keys and values, of one layer or, with a leading axis, of all."""

    k: Float[Array, "*any K H"]
    v: Float[Array, "*any K H"]

    def joined(self, later: KV) -> KV:
        """These followed by later ones, row by row."""
        return KV(*(jnp.concatenate(pair, axis=-3) for pair in zip(self, later)))

    def rows(self, index: Int[Array, " B"]) -> KV:
        """Those of other rows: ``index`` says which of these each of those reads."""
        # Exact; and an index's gradient would be a loop over the rows.
        one = jax.nn.one_hot(index, self.k.shape[-4], dtype=self.k.dtype)
        return KV(*(jnp.einsum("bj,...jpkh->...bpkh", one, part, precision="highest") for part in self))


class Memory(NamedTuple):
    """What a stack of layers has read: every layer's keys and values, and where they stand."""

    kv: KV
    positions: Int[Array, "#B S"]

    def joined(self, later: Memory) -> Memory:
        """This memory followed by a later one."""
        return Memory(self.kv.joined(later.kv), join_positions(self.positions, later.positions))

    def rows(self, index: Int[Array, " B"]) -> Memory:
        """The memory of other rows: ``index`` says which of these each of those continues."""
        return Memory(self.kv.rows(index), self.positions[index])

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


@jax.custom_vjp
def rearranged(
    x: Float[Array, "S ..."], to: Int[Array, "*places"], back: Int[Array, ...]
) -> Float[Array, "*places ..."]:
    """``x[to]``, with zeros where ``to`` is out of range.

    Args:
        back: the inverse of ``to``. With it the gradient is a look-up as well; XLA's own would add up
            row after row.

    >>> rearranged(jnp.array([5.0, 6.0]), to=jnp.array([[1, 2, 0]]), back=jnp.array([2, 0]))
    Array([[6., 0., 5.]], dtype=float32)
    """
    return jnp.take(x, to, axis=0, mode="fill", fill_value=0)


def _forward(x: Array, to: Array, back: Array) -> tuple[Array, tuple[Array, Array]]:
    return rearranged(x, to, back), (to, back)


def _backward(inverse: tuple[Array, Array], gradient: Array) -> tuple[Array, None, None]:
    to, back = inverse
    own = gradient.shape[to.ndim :]
    moved = jnp.take(gradient.reshape(-1, *own), back.reshape(-1), axis=0, mode="fill", fill_value=0)
    return moved, None, None


rearranged.defvjp(_forward, _backward)


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
        return joined([attend_to_some(q, kv, mask, scale, cap)])
    return jax.nn.dot_product_attention(q, kv.k, kv.v, bias=bias, mask=mask, scale=scale)


def attend_within(
    q: Float[Array, "B T N H"],
    kv: KV,
    lengths: Int[Array, " B"],
    scale: float,
    bias: Float[Array, "1 N T T"],
) -> Float[Array, "B T N H"]:
    """Attention of rows to themselves, both ways, each within the first of its places that ``lengths`` tells.

    What the places behind give is of no meaning. A CPU takes row after row, and cuts each to the next of a
    few widths: what it then works on fits its cache, and most of the padding is left out.
    """

    def at_once(q: Array, k: Array, v: Array, lengths: Array) -> Float[Array, "B T N H"]:
        there = jnp.arange(q.shape[1])[None] < lengths[:, None]
        within = bias[:, :, : q.shape[1], : q.shape[1]]
        return attend(q, KV(k, v), there[:, None, None], scale, bias=within)

    def in_turn(q: Array, k: Array, v: Array, lengths: Array) -> Float[Array, "B T N H"]:
        longest = q.shape[1]
        widths = [-(-longest * part // WIDTHS) for part in range(1, WIDTHS + 1)]

        def to(width: int, q: Array, k: Array, v: Array, length: Array) -> Float[Array, "T N H"]:
            saw = at_once(q[None, :width], k[None, :width], v[None, :width], length[None])[0]
            return jnp.pad(saw, [(0, longest - width), (0, 0), (0, 0)])

        def look(row: tuple[Array, Array, Array, Array]) -> Float[Array, "T N H"]:
            # What the backward pass would keep of one width, it would have to keep of all.
            branches = [jax.checkpoint(functools.partial(to, width)) for width in widths]
            return jax.lax.switch(jnp.searchsorted(jnp.array(widths), row[-1]), branches, *row)

        return jax.lax.map(jax.checkpoint(look), (q, k, v, lengths))

    if on_one_device():
        return jax.lax.platform_dependent(q, *kv, lengths, cpu=in_turn, default=at_once)
    return at_once(q, *kv, lengths)


class Share(NamedTuple):
    """What some of the keys contribute to softmax attention.

    Attributes:
        values: the sum of their values, each times exp(its score - ``top``).
        weight: the sum of these factors.
        top: their highest score.
    """

    values: Float[Array, "*rows N H"]
    weight: Float[Array, "*rows N"]
    top: Float[Array, "*rows N"]

    def rearranged(self, to: Int[Array, "*places"], back: Int[Array, ...]) -> Share:
        """The shares of other places; see ``rearranged``."""
        flat = (part.reshape(back.size, *part.shape[back.ndim :]) for part in self)
        return Share(*(rearranged(part, to, back) for part in flat))


def attend_to_some(
    q: Float[Array, "B T N H"],
    kv: KV,
    mask: Bool[Array, "#B 1 #T S"] | None,
    scale: float,
    cap: float | None = None,
) -> Share:
    """What ``kv`` contributes to attention that has other keys as well; scores and sums in float32."""
    (rows, length, heads, width), groups = q.shape, kv.k.shape[2]
    q = q.reshape(rows, length, groups, heads // groups, width)
    scores = scale * jnp.einsum("btgrh,bsgh->bgtrs", q, kv.k, preferred_element_type=jnp.float32)
    if cap is not None:
        scores = cap * jnp.tanh(scores / cap)
    if mask is not None:
        scores = jnp.where(mask[..., None, :], scores, LEAST)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, initial=LEAST))  # it cancels out
    factors = jnp.exp(scores - top[..., None])
    values = jnp.einsum("bgtrs,bsgh->bgtrh", factors.astype(kv.v.dtype), kv.v)
    parts = (jnp.moveaxis(part, 1, 2) for part in (values, jnp.sum(factors, axis=-1), top))
    return Share(*(part.reshape(rows, length, heads, *part.shape[4:]) for part in parts))


def joined(shares: Sequence[Share]) -> Float[Array, "*rows N H"]:
    """Softmax attention to the keys of all ``shares`` together."""
    top = functools.reduce(jnp.maximum, [share.top for share in shares])
    factors = [jnp.exp(share.top - top) for share in shares]
    weight = sum(share.weight * factor for share, factor in zip(shares, factors))
    values = sum(
        share.values.astype(jnp.float32) * factor[..., None] for share, factor in zip(shares, factors)
    )
    # Nothing is seen from a place that only fills up: zero there, not 0/0.
    return (values / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)[..., None]).astype(
        shares[0].values.dtype
    )
