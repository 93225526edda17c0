"""One layer of a decoder: norms, attention and feed-forward, whatever the attention reads."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.models.attention import KV
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import Layer, feed_forward, layer_norm, linear, look_up, rms_norm, routed_feed_forward
from mpt.models.rope import Angles, rotate
from mpt.sharding import by_tensor, kv_copies


def entered(
    spec: DecoderSpec, ends: Layer, x: Float[Array, "*rows D"], positions: Int[Array, "*#rows"]
) -> Float[Array, "*rows D"]:
    """Embeddings as the first layer reads them: scaled, and with learned positions added."""
    if spec.positions:
        x = x + look_up(ends, "position_table", positions)
    return x if spec.input_scale == 1.0 else x * jnp.asarray(spec.input_scale, x.dtype)


def block(
    spec: DecoderSpec,
    w: Layer,
    x: Float[Array, "*rows D"],
    angles: Angles | None,
    attention: Callable[[Array, KV], Array],
) -> tuple[Float[Array, "*rows D"], KV]:
    """Runs one layer; its output, and its keys and values of ``x``.

    Args:
        angles: the rotations at the positions of ``x``; None where positions are learned.
        attention: takes the layer's queries, and its keys and values of ``x``.
    """
    h = norm(spec, w, "attention_norm", x) if spec.pre_norms else x
    q, k, v = (linear(w, name, h) for name in ("q", "k", "v"))
    if spec.qk_norm:
        q, k = (head_norm(spec, w[f"{name}_norm"], y) for name, y in (("q", q), ("k", k)))
    if angles is not None:
        q, k = (rotate(y, angles) for y in (q, k))
        if angles.query_scale is not None:
            q = q * angles.query_scale[..., None, None].astype(q.dtype)
    q, kv = by_tensor(q, "heads", "head_dim"), sharded_heads(KV(k, v))
    h = by_tensor(linear(w, "out", attention(q, kv), axes=2), "embed")
    x = added(spec, x, norm(spec, w, "attention_post_norm", h) if spec.post_norms else h)

    h = norm(spec, w, "mlp_norm", x) if spec.pre_norms else x
    if spec.experts:
        h = routed_feed_forward(w, h, spec.activation, spec.experts_per_token, spec.experts_weighed)
    else:
        h = feed_forward(w, h, spec.activation)
    h = by_tensor(h, "embed")
    return added(spec, x, norm(spec, w, "mlp_post_norm", h) if spec.post_norms else h), kv


def added(
    spec: DecoderSpec, x: Float[Array, "*rows D"], h: Float[Array, "*rows D"]
) -> Float[Array, "*rows D"]:
    """The residual stream, with what a part of a layer adds to it."""
    return x + (h if spec.residual_scale == 1.0 else h * jnp.asarray(spec.residual_scale, h.dtype))


def sharded_heads(kv: KV) -> KV:
    """Keys and values whose heads are dealt out over ``tensor``, so that each query head's are on its device.

    They are repeated to the least number of heads that ``tensor`` divides.
    """
    copies = kv_copies(kv.k.shape[-2])
    k, v = (jnp.repeat(part, copies, axis=-2) if copies > 1 else part for part in kv)
    return KV(by_tensor(k, "kv_heads", "head_dim"), by_tensor(v, "kv_heads", "head_dim"))


def head_norm(
    spec: DecoderSpec, scale: Float[Array, "*heads H"], x: Float[Array, "*rows N H"]
) -> Float[Array, "*rows N H"]:
    """The norm of queries or keys: of each head, or of all heads together where ``scale`` is of all."""
    flat = x.reshape(*x.shape[: x.ndim - scale.ndim], scale.size)
    return rms_norm(flat, scale.reshape(-1), spec.norm_eps, spec.norm_offset).reshape(x.shape)


def norm(spec: DecoderSpec, w: Layer, name: str, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """The norm of that name, of the kind that the decoder has."""
    if spec.norm == "layer":
        return layer_norm(x, w[name], w[f"{name}_bias"], spec.norm_eps)
    return rms_norm(x, w[name], spec.norm_eps, spec.norm_offset)
