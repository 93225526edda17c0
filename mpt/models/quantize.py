"""Quantisation of frozen weights to 8 bits: a quarter of float32's memory, half of bfloat16's.

Each output channel of a matrix, and each row of a token table, is rounded to 255 even steps about zero.
Its step size, in float32, is stored with it under the suffix ``_scale`` and multiplies the output. Norms,
biases and position tables are not quantised.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int8

from mpt.models.backbone import Backbone
from mpt.models.decoder import Decoder
from mpt.models.encoder_decoder.base import EncoderDecoder
from mpt.models.layers import Weight
from mpt.models.matrices import FEED_FORWARD, matrices, stacks

TABLES = ("embedding", "decoder_embedding", "head", "per_layer_table")


def quantize(backbone: Decoder | EncoderDecoder) -> None:
    """Replaces the matrices of a backbone by their 8-bit form, one after another."""
    for stack in stacks(backbone).values():
        for name, inputs in matrices(stack).items():
            _replace(stack, name, tuple(range(1, 1 + inputs)))
        for name in [f"expert_{name}" for name in FEED_FORWARD if f"expert_{name}" in stack]:
            _replace(stack, name, (2,))  # after the axes of layer and expert
    for name in TABLES:
        if name in backbone.ends:
            _replace(backbone.ends, name, (1,))


def is_quantized(backbone: Backbone) -> bool:
    """Whether the matrices of a backbone are stored in 8 bits."""
    return any(name.endswith("_scale") for stack in stacks(backbone).values() for name in stack)


def _replace(weights: nnx.Dict, name: str, inputs: tuple[int, ...]) -> None:
    weight = weights[name]
    values, scale = rounded(weight[...], inputs)
    axes = tuple(axis for i, axis in enumerate(weight.axes) if i not in inputs)
    weights[name] = Weight(values, axes=weight.axes)
    weights[f"{name}_scale"] = Weight(scale, axes=axes)


@functools.partial(jax.jit, static_argnames="inputs")
def rounded(
    matrix: Float[Array, "*any"], inputs: tuple[int, ...]
) -> tuple[Int8[Array, "*any"], Float[Array, "*outputs"]]:
    """A matrix in whole steps, and the step sizes: one for each index along its axes other than ``inputs``.

    >>> rounded(jnp.array([[1.0, -2.0], [0.5, 0.0]]), (1,))[0]
    Array([[  64, -127],
           [ 127,    0]], dtype=int8)
    """
    matrix = matrix.astype(jnp.float32)
    scale = jnp.maximum(jnp.max(jnp.abs(matrix), axis=inputs), jnp.finfo(jnp.float32).tiny) / 127
    return jnp.round(matrix / jnp.expand_dims(scale, inputs)).astype(jnp.int8), scale
