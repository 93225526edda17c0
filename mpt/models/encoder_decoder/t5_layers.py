"""The layers of an encoder-decoder: their attention to themselves and across, and relative positions."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.models.attention import KV
from mpt.models.encoder_decoder.t5_spec import T5Spec
from mpt.models.layers import Layer, feed_forward, linear, rms_norm


def self_attention(
    spec: T5Spec, w: Layer, x: Float[Array, "*rows D"], attention: Callable[[Array, KV], Array]
) -> tuple[Float[Array, "*rows D"], KV]:
    """Runs the self-attention of a layer; its output, and its keys and values of ``x``.

    Args:
        attention: takes the layer's queries, and its keys and values of ``x``.
    """
    h = rms_norm(x, w["norm"], spec.norm_eps)
    kv = KV(linear(w, "k", h), linear(w, "v", h))
    return x + linear(w, "out", attention(linear(w, "q", h), kv), axes=2), kv


def decoder_layer(
    spec: T5Spec,
    w: Layer,
    x: Float[Array, "*rows D"],
    attention: Callable[[Array, KV], Array],
    cross_attention: Callable[[Array], Array],
) -> tuple[Float[Array, "*rows D"], KV]:
    """Runs one layer of the decoder; its output, and the keys and values of its self-attention.

    Args:
        attention: the self-attention, as in ``self_attention``.
        cross_attention: the attention to the encoder's output; takes the layer's queries.
    """
    x, kv = self_attention(spec, w, x, attention)
    q = linear(w, "cross_q", rms_norm(x, w["cross_norm"], spec.norm_eps))
    x = x + linear(w, "cross_out", cross_attention(q), axes=2)
    return x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation), kv


def position_bias(table: Float[Array, "buckets N"], bucket: Int[Array, "#B T S"]) -> Float[Array, "#B N T S"]:
    """The bias of the attention scores, by head and pair of positions, from the buckets' table."""
    return jnp.moveaxis(table.astype(jnp.float32)[bucket], -1, 1)


def buckets(
    queries: Int[Array, "#B T"], keys: Int[Array, "#B S"], count: int, max_distance: int, both_ways: bool
) -> Int[Array, "#B T S"]:
    """The bucket of each key's position relative to each query's (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, the others ever more, up to ``max_distance``. In a
    bidirectional stack, later positions have buckets of their own.

    >>> buckets(jnp.array([[9]]), jnp.array([[9, 8, 6, 1, 11]]), 8, 16, both_ways=True)[0, 0]
    Array([0, 1, 2, 3, 6], dtype=int32)
    """
    distance = queries[:, :, None] - keys[:, None, :]
    offset = 0
    if both_ways:
        count //= 2
        offset = jnp.where(distance < 0, count, 0)
        distance = jnp.abs(distance)
    distance = jnp.maximum(distance, 0)
    exact = count // 2
    # Compared in float32, as the models were trained: the rounding at a bucket's edge is part of them.
    ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / jnp.log(
        jnp.float32(max_distance / exact)
    )
    far = exact + (ratio * (count - exact)).astype(jnp.int32)
    return offset + jnp.where(distance < exact, distance, jnp.minimum(far, count - 1))
