"""One layer of a decoder: norms, attention or the delta rule, and feed-forward, whatever they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.models.attention import KV
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import (
    Layer,
    Routing,
    feed_forward,
    layer_norm,
    linear,
    look_up,
    on_last_axes,
    rms_norm,
    routed_feed_forward,
)
from mpt.models.rope import Angles, rotate
from mpt.models.stack.delta_rule import QKV, Inputs
from mpt.models.stack.per_layer import with_layer_input
from mpt.sharding import by_tensor, kv_copies


def entered(
    spec: DecoderSpec, ends: Layer, x: Float[Array, "*rows D"], positions: Int[Array, "*#rows"]
) -> Float[Array, "*rows D"]:
    """Embeddings as the first layer reads them: scaled, and with learned positions added."""
    if spec.positions:
        x = x + look_up(ends, "position_table", positions).astype(x.dtype)
    return x if spec.input_scale == 1.0 else x * jnp.asarray(spec.input_scale, x.dtype)


class Mixing(NamedTuple):
    """How positions read one another: what the layers of each kind do with what they make of every position.

    All take a layer's spec, its weights and what it has of earlier positions, and return the layer's output
    and what is kept of it.

    Attributes:
        attention: takes queries, keys and values.
        delta: takes the inputs of the delta rule.
        across: takes the queries to an encoder's output.
    """

    attention: Callable[[DecoderSpec, Layer, Any, Array, KV], tuple[Array, Any]]
    delta: Callable[[DecoderSpec, Layer, Any, Inputs], tuple[Array, Any]] | None = None
    across: Callable[[DecoderSpec, Layer, Any, Array], tuple[Array, Any]] | None = None


class Given(NamedTuple):
    """What a layer reads besides the states of the layer below.

    Attributes:
        past: what it has of earlier positions.
        kv: keys and values of a lower layer, if it has none of its own.
        own: inputs of this layer alone, if its spec has such.
    """

    past: Any = None
    kv: KV | None = None
    own: Float[Array, "*rows W"] | None = None


def block(
    spec: DecoderSpec,
    w: Layer,
    x: Float[Array, "*rows D"],
    angles: Angles | None,
    mixing: Mixing,
    given: Given = Given(),  # noqa: B008, never changed
) -> tuple[Float[Array, "*rows D"], Any, KV | None]:
    """Runs one layer; its output, what is kept of it, and its keys and values of ``x`` if it has some.

    For a layer that attends to an encoder's output after its self-attention, the two caches are a pair.

    Args:
        angles: the rotations at the positions of ``x``; None where there are none.
        given: what the layer reads besides.
    """
    h = norm(spec, w, "attention_norm", x) if spec.pre_norms else x
    mixer = delta_mixer if spec.taps else attention_mixer
    h, kept, kv = mixer(spec, w, h, angles, mixing, given)
    h = by_tensor(linear(w, "out", h, axes=2), "embed")
    x = added(spec, x, norm(spec, w, "attention_post_norm", h) if spec.post_norms else h)
    if spec.crosses:
        h, of_encoded = cross_attention(spec, w, x, mixing, given)
        x, kept = added(spec, x, h), (kept, of_encoded)

    h = by_tensor(mlp(spec, w, x), "embed")
    x = added(spec, x, norm(spec, w, "mlp_post_norm", h) if spec.post_norms else h)
    if spec.per_layer:
        assert given.own is not None
        x = with_layer_input(spec, w, x, given.own)
    return (x * w["layer_scale"].astype(x.dtype) if spec.layer_scale else x), kept, kv


def mlp(spec: DecoderSpec, w: Layer, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
    """The feed-forward of a layer, or its experts, or both; before the norm after them."""
    h = norm(spec, w, "mlp_norm", x) if spec.pre_norms else x
    if not spec.experts:
        return feed_forward(w, h, spec.activation)
    routing = Routing(spec.experts_per_token, spec.experts_weighed)
    if not spec.dense_d_ff:
        return routed_feed_forward(w, h, h, spec.activation, routing)
    by = norm(spec, w, "router_norm", x) * jnp.asarray(spec.d_model**-0.5, x.dtype)
    routed = routed_feed_forward(w, norm(spec, w, "routed_norm", x), by, spec.activation, routing)
    dense = norm(spec, w, "dense_post_norm", feed_forward(w, h, spec.activation))
    return dense + norm(spec, w, "routed_post_norm", routed)


def attention_mixer(
    spec: DecoderSpec,
    w: Layer,
    h: Float[Array, "*rows D"],
    angles: Angles | None,
    mixing: Mixing,
    given: Given,
) -> tuple[Float[Array, "*rows N H"], Any, KV]:
    """The attention of a layer, in front of its last matrix; what is kept; and its keys and values."""

    def normed_and_rotated(name: str, y: Float[Array, "*rows N H"]) -> Float[Array, "*rows N H"]:
        y = head_norm(spec, w[f"{name}_norm"], y) if spec.qk_norm else y
        return y if angles is None else rotate(y, angles)

    q, kv = normed_and_rotated("q", linear(w, "q", h)), given.kv
    if not spec.shares:
        k = linear(w, "k", h)
        v = k if spec.keys_as_values else linear(w, "v", h)
        v = rms_norm(v, jnp.ones(spec.head_dim), spec.norm_eps) if spec.value_norm else v
        kv = sharded_heads(KV(normed_and_rotated("k", k), v))
    assert kv is not None
    if angles is not None and angles.query_scale is not None:
        q = q * angles.query_scale[..., None, None].astype(q.dtype)
    out, kept = mixing.attention(spec, w, given.past, by_tensor(q, "heads", "head_dim"), kv)
    if spec.out_gate:
        out = out * jax.nn.sigmoid(by_tensor(linear(w, "out_gate", h), "heads", "head_dim"))
    return out, kept, kv


def cross_attention(
    spec: DecoderSpec, w: Layer, x: Float[Array, "*rows D"], mixing: Mixing, given: Given
) -> tuple[Float[Array, "*rows D"], Any]:
    """What a layer reads of an encoder's output, with the norms around it; and what is kept."""
    assert mixing.across is not None
    q = linear(w, "cross_q", norm(spec, w, "cross_norm", x))
    h, kept = mixing.across(spec, w, given.past, by_tensor(q, "heads", "head_dim"))
    h = by_tensor(linear(w, "cross_out", h, axes=2), "embed")
    return (norm(spec, w, "cross_post_norm", h) if spec.post_norms else h), kept


def delta_mixer(
    spec: DecoderSpec, w: Layer, h: Float[Array, "*rows D"], _: Angles | None, mixing: Mixing, given: Given
) -> tuple[Float[Array, "*rows N H"], Any, None]:
    """The gated delta rule of a layer, in front of its last matrix; and what is kept."""
    qkv = QKV(*(linear(w, name, h) for name in ("q", "k", "v")))
    offset = on_last_axes(w["decay_offset"].astype(jnp.float32), qkv.v[..., 0])
    rate = on_last_axes(jnp.exp(w["decay_rate_log"].astype(jnp.float32)), offset)
    decay = -rate * jax.nn.softplus(linear(w, "decay", h).astype(jnp.float32) + offset)
    beta = jax.nn.sigmoid(linear(w, "beta", h).astype(jnp.float32))
    assert mixing.delta is not None
    out, kept = mixing.delta(spec, w, given.past, Inputs(qkv, decay, beta))
    out = rms_norm(by_tensor(out, "heads", "head_dim"), w["out_norm"], spec.norm_eps)
    gate = by_tensor(linear(w, "out_gate", h), "heads", "head_dim")
    return (out.astype(jnp.float32) * jax.nn.silu(gate.astype(jnp.float32))).astype(h.dtype), kept, None


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
