"""The additional input of each of Gemma 4's layers for every token, besides the previous layer's states.

A token has a row of its own for every layer in a table. To it a map of the token's embedding is added, which
a prompt's vectors have as well. They have no token, though; they take the row of padding, as the vectors of
images and sounds do, with which these models were trained.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import Layer, activated, linear, look_up, rms_norm


def layer_inputs(
    spec: DecoderSpec, ends: Layer, x: Float[Array, "*rows D"], tokens: Int[Array, "*rows"] | None
) -> Float[Array, "*rows layers W"]:
    """The inputs of each layer.

    Args:
        ends: the weights outside the layers.
        x: what enters the first layer.
        tokens: the tokens that ``x`` are the embeddings of; None: they are vectors of prompts.
    """
    if tokens is None:
        tokens = jnp.full(x.shape[:-1], spec.soft_token)
    shape = (*x.shape[:-1], spec.layers, spec.per_layer)
    rows = look_up(ends, "per_layer_table", tokens).astype(x.dtype).reshape(shape)
    mapped = linear(ends, "per_layer_projection", x).reshape(shape) * spec.d_model**-0.5
    mapped = rms_norm(mapped, ends["per_layer_norm"], spec.norm_eps)
    return (mapped + rows * spec.per_layer**0.5) * 2**-0.5


def with_layer_input(
    spec: DecoderSpec, w: Layer, x: Float[Array, "*rows D"], given: Float[Array, "*rows W"]
) -> Float[Array, "*rows D"]:
    """A layer's output with what the layer makes of its own input; a gate of ``x`` decides how much."""
    gated = activated(spec.activation, linear(w, "per_layer_gate", x), given)
    h = linear(w, "per_layer_out", gated)
    return x + rms_norm(h, w["per_layer_post_norm"], spec.norm_eps)
