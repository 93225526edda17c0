"""Softmax attention with grouped query heads, and the KV cache.

Masks follow from positions alone: a query attends to the keys at or before its own position, within the
layer's window. An empty slot of a cache has the position ``NOWHERE``, which is after every query.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from mpt.sharding import on_one_device

NOWHERE = 2**30
LEAST = jnp.finfo(jnp.float32).min

# How texts after prompts attend: by the formulas of this file, or in one fused call, which keeps no
# scores: that of XLA, which any device has, or that of cuDNN.
Fused = Literal["xla", "cudnn"]
Kernel = Literal["plain"] | Fused

# The kernel of each backend. No figure says yet that cuDNN's is faster; benchmarks/gpu measures both.
KERNELS: dict[str, Kernel] = {"cpu": "plain", "gpu": "plain", "tpu": "plain"}

# Number of widths that a row may be cut to: more of them waste less padding, and take longer to compile.
WIDTH_STEPS = 8


class KV(NamedTuple):
    """Keys and values, [..., S, K, H], of one layer or, with a leading axis, of all layers."""

    k: Float[Array, "*any K H"]
    v: Float[Array, "*any K H"]

    def concat(self, later: KV) -> KV:
        """These keys and values followed by later ones, along the axis of positions."""
        return KV(*(jnp.concatenate(pair, axis=-3) for pair in zip(self, later)))

    def take_rows(self, index: Int[Array, " B"]) -> KV:
        """The keys and values [..., B, S, K, H] of the rows that ``index`` names."""
        return KV(*(take_rows(part, index, axis=-4) for part in self))


class KVCache(NamedTuple):
    """The KV cache of a stack of layers, or of several stacks by name.

    Attributes:
        kv: every layer's keys and values, [layers, B, S, K, H].
        positions: the position of each slot; ``NOWHERE`` where it is empty.
    """

    kv: Any  # a KV, or a dict of them
    positions: Int[Array, "#B S"]

    def concat(self, later: KVCache) -> KVCache:
        """The slots of this cache followed by those of a later one."""
        kv = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=2), self.kv, later.kv)
        return KVCache(kv, concat_positions(self.positions, later.positions))

    def take_rows(self, index: Int[Array, " B"]) -> KVCache:
        """The cache of the rows that ``index`` names."""
        kv = jax.tree.map(lambda part: take_rows(part, index, axis=1), self.kv)
        return KVCache(kv, self.positions[index])

    def with_slots_in_front(self, count: int) -> KVCache:
        """This cache with ``count`` slots in front, which hold zeros."""
        kv = jax.tree.map(lambda part: jnp.pad(part, _slots(count, 0)), self.kv)
        return KVCache(kv, jnp.pad(self.positions, [(0, 0), (count, 0)]))

    def with_spare_slots(self, count: int) -> KVCache:
        """This cache with ``count`` empty slots at its end."""
        kv = jax.tree.map(lambda part: jnp.pad(part, _slots(0, count)), self.kv)
        positions = jnp.pad(self.positions, [(0, 0), (0, count)], constant_values=NOWHERE)
        return KVCache(kv, positions)

    def updated(self, new: KVCache, slot: Int[Array, ""]) -> KVCache:
        """This cache with ``new`` in the slots from ``slot`` on."""

        def written(old: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(old, new, slot, axis=2)

        kv = jax.tree.map(written, self.kv, new.kv)
        positions = jax.lax.dynamic_update_slice_in_dim(self.positions, new.positions, slot, axis=1)
        return KVCache(kv, positions)


def _slots(before: int, after: int) -> list[tuple[int, int]]:
    return [(0, 0), (0, 0), (before, after), (0, 0), (0, 0)]


def take_rows(x: Float[Array, ...], index: Int[Array, " B"], axis: int) -> Float[Array, ...]:
    """The rows of ``x`` along an axis that ``index`` names."""
    # A product with a one-hot matrix is exact, and the gradient of indexing would loop over the rows.
    one = jax.nn.one_hot(index, x.shape[axis], dtype=x.dtype)
    return jnp.moveaxis(jnp.tensordot(one, x, (1, axis % x.ndim), precision="highest"), 0, axis % x.ndim)


def concat_positions(first: Int[Array, "#B S"], second: Int[Array, "#B T"]) -> Int[Array, "#B S+T"]:
    """The positions of two consecutive runs of keys, in every row."""
    rows = max(len(first), len(second))
    return jnp.concatenate(
        [jnp.broadcast_to(part, (rows, part.shape[1])) for part in (first, second)], axis=1
    )


def concat_masks(
    first: Bool[Array, "#B 1 #T S"], second: Bool[Array, "#B 1 #T R"]
) -> Bool[Array, "#B 1 #T S+R"]:
    """The masks of the same queries to two consecutive runs of keys."""
    queries = np.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    return jnp.concatenate(
        [jnp.broadcast_to(part, (*queries, part.shape[-1])) for part in (first, second)], -1
    )


@jax.custom_vjp
def gather(
    x: Float[Array, "S ..."], indices: Int[Array, "*cells"], inverse: Int[Array, ...]
) -> Float[Array, "*cells ..."]:
    """``x[indices]``, with zeros where an index is out of range.

    Args:
        inverse: for each row of ``x``, its place among the flattened ``indices``; out of range if it has
            none. With it the gradient is a gather as well; XLA's own would add up row after row.

    >>> gather(jnp.array([5.0, 6.0]), jnp.array([[1, 2, 0]]), inverse=jnp.array([2, 0]))
    Array([[6., 0., 5.]], dtype=float32)
    """
    return jnp.take(x, indices, axis=0, mode="fill", fill_value=0)


def _forward(x: Array, indices: Array, inverse: Array) -> tuple[Array, tuple[Array, Array]]:
    return gather(x, indices, inverse), (indices, inverse)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None, None]:
    indices, inverse = saved
    flat = gradient.reshape(-1, *gradient.shape[indices.ndim :])
    return jnp.take(flat, inverse.reshape(-1), axis=0, mode="fill", fill_value=0), None, None


gather.defvjp(_forward, _backward)


def visible(
    queries: Int[Array, "#B T"],
    keys: Int[Array, "#B S"],
    window: int | Int[Array, ""] = NOWHERE,
    ahead: int | Int[Array, ""] = 0,
) -> Bool[Array, "#B 1 T S"]:
    """The causal mask: each query attends to its own position and those before it, ``window`` in all.

    In an encoder, it attends to ``ahead`` later positions as well.

    >>> visible(jnp.array([[2, 3]]), jnp.array([[0, 1, 2, 3, NOWHERE]]), window=2)[0, 0].astype(int)
    Array([[0, 1, 1, 0, 0],
           [0, 0, 1, 1, 0]], dtype=int32)
    """
    distance = queries[:, None, :, None] - keys[:, None, None, :]
    return (distance >= -ahead) & (distance < window)


def attend(
    q: Float[Array, "B T N H"],
    kv: KV,
    mask: Bool[Array, "#B 1 #T S"],
    scale: float,
    cap: float | None = None,
    sinks: Float[Array, " N"] | None = None,
    bias: Float[Array, "#B N T S"] | None = None,
) -> Float[Array, "B T N H"]:
    """Softmax attention of queries to keys and values, by JAX's fused kernel where that can express it.

    Args:
        mask: True where a query attends to a key.
        scale: factor on the scores.
        cap: bound that a tanh keeps the scores within (Gemma 2); not fused.
        sinks: each head's score for attending to nothing (gpt-oss); not fused.
        bias: added to the scores, where there is neither cap nor sinks.
    """
    if cap is not None or sinks is not None:
        return merge([attend_partially(q, kv, mask, scale, cap)], sinks)
    return jax.nn.dot_product_attention(q, kv.k, kv.v, bias=bias, mask=mask, scale=scale)


def fused_by(kernel: Kernel, dtype: DTypeLike, head_dim: int) -> Fused | None:
    """Whose fused call takes the place of the plain formulas; None: they stay, as they do on a mesh."""
    if kernel == "plain" or not on_one_device():
        return None
    cudnn = jnp.dtype(dtype).itemsize == 2 and head_dim % 8 == 0 and head_dim <= 128
    return kernel if kernel == "xla" or cudnn else None


def attend_after(
    q: Float[Array, "B T N H"],
    front: KV,
    text: KV,
    lengths: Int[Array, " B"],
    scale: float,
    fused: Fused,
) -> Float[Array, "B T N H"]:
    """Causal attention of padded texts to all that is in front of them and to themselves, in one fused call.

    The two parts are not merged afterwards, since cuDNN's sum of exponentials has no gradient. Its causal
    mask begins at the first query: there are queries of zeros in front too, whose outputs are dropped.

    Args:
        front: each row's keys and values in front of its text, [B, P, K, H].
        lengths: the length of each row's text; the outputs after it are zeros.
    """
    before = front.k.shape[1]
    q = jnp.pad(q, [(0, 0), (before, 0), (0, 0), (0, 0)])
    return _attend_fused(q, front.concat(text), before + lengths, scale, fused, is_causal=True)[:, before:]


def attend_within(
    q: Float[Array, "B T N H"],
    kv: KV,
    lengths: Int[Array, " B"],
    scale: float,
    bias: Float[Array, "1 N T T"] | None = None,
    kernel: Kernel = "plain",
    cap: float | None = None,
    reach: tuple[Int[Array, ""], Int[Array, ""]] | None = None,
) -> Float[Array, "B T N H"]:
    """Bidirectional self-attention of padded rows, each within the first ``lengths`` of its T positions.

    The outputs at padding have no meaning. A CPU takes row after row, and cuts each to the next of a few
    widths: what it then works on fits its cache, and most of the padding is left out.

    Args:
        scale: with ``bias`` and ``cap``, that of ``attend``.
        kernel: how rows attend where there is neither a cap nor a reach.
        reach: how many positions each one attends to up to its own, and how many after; None: all.
    """
    plain = cap is not None or reach is not None
    if fused := None if plain else fused_by(kernel, q.dtype, q.shape[-1]):
        return _attend_fused(q, kv, lengths, scale, fused, bias)

    def batched(q: Array, k: Array, v: Array, lengths: Array) -> Float[Array, "B T N H"]:
        positions = jnp.arange(q.shape[1])[None]
        mask = (positions < lengths[:, None])[:, None, None]
        if reach is not None:
            mask &= visible(positions, positions, *reach)
        cut_bias = None if bias is None else bias[:, :, : q.shape[1], : q.shape[1]]
        return attend(q, KV(k, v), mask, scale, cap, bias=cut_bias)

    def row_by_row(q: Array, k: Array, v: Array, lengths: Array) -> Float[Array, "B T N H"]:
        longest = q.shape[1]
        widths = [-(-longest * part // WIDTH_STEPS) for part in range(1, WIDTH_STEPS + 1)]

        def cut_to(width: int, q: Array, k: Array, v: Array, length: Array) -> Float[Array, "T N H"]:
            out = batched(q[None, :width], k[None, :width], v[None, :width], length[None])[0]
            return jnp.pad(out, [(0, longest - width), (0, 0), (0, 0)])

        def attend_row(row: tuple[Array, Array, Array, Array]) -> Float[Array, "T N H"]:
            # Without this the backward pass would keep the intermediate values of every width.
            branches = [jax.checkpoint(functools.partial(cut_to, width)) for width in widths]
            return jax.lax.switch(jnp.searchsorted(jnp.array(widths), row[-1]), branches, *row)

        return jax.lax.map(jax.checkpoint(attend_row), (q, k, v, lengths))

    if on_one_device():
        return jax.lax.platform_dependent(q, *kv, lengths, cpu=row_by_row, default=batched)
    return batched(q, *kv, lengths)


def _attend_fused(
    q: Float[Array, "B T N H"],
    kv: KV,
    lengths: Int[Array, " B"],
    scale: float,
    fused: Fused,
    bias: Float[Array, "1 N T T"] | None = None,
    is_causal: bool = False,
) -> Float[Array, "B T N H"]:
    """Self-attention of rows, padded after ``lengths``, in one call.

    cuDNN takes no odd number of positions, and a bias in the type of the queries alone.
    """
    length, odd = q.shape[1], q.shape[1] % 2
    q, k, v = (jnp.pad(part, [(0, 0), (0, odd), (0, 0), (0, 0)]) for part in (q, *kv))
    if bias is not None:
        bias = jnp.pad(bias, [(0, 0), (0, 0), (0, odd), (0, odd)]).astype(q.dtype)
    ends = lengths.astype(jnp.int32)
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        bias,
        scale=scale,
        is_causal=is_causal,
        query_seq_lengths=ends,
        key_value_seq_lengths=ends,
        implementation=fused,
    )
    return out[:, :length]


class PartialSoftmax(NamedTuple):
    """Unnormalised softmax attention to a part of the keys; ``merge`` puts such parts together.

    Attributes:
        values: the sum of the values, each times exp(score - ``top``).
        weight: the sum of these factors.
        top: the highest score.
    """

    values: Float[Array, "*rows N H"]
    weight: Float[Array, "*rows N"]
    top: Float[Array, "*rows N"]

    def gather(self, indices: Int[Array, "*cells"], inverse: Int[Array, ...]) -> PartialSoftmax:
        """The sums of the queries that ``indices`` names; see the function ``gather``."""
        flat = (part.reshape(inverse.size, *part.shape[inverse.ndim :]) for part in self)
        return PartialSoftmax(*(gather(part, indices, inverse) for part in flat))


def attend_partially(
    q: Float[Array, "B T N H"],
    kv: KV,
    mask: Bool[Array, "#B 1 #T S"] | None,
    scale: float,
    cap: float | None = None,
) -> PartialSoftmax:
    """The part of attention that goes to ``kv``, where there are other keys as well.

    Scores and sums are in float32; the arguments are those of ``attend``, and no mask lets all be seen.
    """
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
    return PartialSoftmax(*(part.reshape(rows, length, heads, *part.shape[4:]) for part in parts))


def merge(
    parts: Sequence[PartialSoftmax], sinks: Float[Array, " N"] | None = None
) -> Float[Array, "*rows N H"]:
    """Softmax attention to the keys of all ``parts`` together.

    Args:
        sinks: each head's score of one more key, whose value is zero.
    """
    top = functools.reduce(jnp.maximum, [part.top for part in parts])
    if sinks is not None:
        sinks = sinks.astype(jnp.float32).reshape((1,) * (top.ndim - 1) + (-1,))
        top = jnp.maximum(top, jax.lax.stop_gradient(sinks))
    factors = [jnp.exp(part.top - top) for part in parts]
    weight = sum(part.weight * factor for part, factor in zip(parts, factors))
    if sinks is not None:
        weight = weight + jnp.exp(sinks - top)
    values = sum(part.values.astype(jnp.float32) * factor[..., None] for part, factor in zip(parts, factors))
    # A query at padding attends to nothing: zero there, not 0/0.
    return (values / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)[..., None]).astype(
        parts[0].values.dtype
    )
