"""Pieces that every backbone is built of.

The letters of array shapes are those of the package's legend (``mpt/__init__.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int


class Weight(nnx.Variable):
    """A frozen tensor of a backbone. ``axes`` names its logical axes, for sharding."""


class KV(NamedTuple):
    """Keys and values of one attention layer, ready to be attended to."""

    k: Float[Array, "B S K H"]
    v: Float[Array, "B S K H"]


def rms_norm(x: Float[Array, "... D"], scale: Float[Array, " D"], eps: float) -> Float[Array, "... D"]:
    """Root-mean-square norm in float32 (Zhang & Sennrich 2019), returned in ``x``'s type."""
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * scale.astype(jnp.float32)).astype(x.dtype)


def rotate(
    x: Float[Array, "B T N H"], positions: Int[Array, "#B T"], theta: float
) -> Float[Array, "B T N H"]:
    """Rotary position embedding in the half-rotation layout (Su et al. 2021, section 3.2)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None, None].astype(jnp.float32) * frequency  # [B, T, 1, H/2]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)


def causal_mask(length: int, past: int = 0) -> Bool[Array, "1 1 T S"]:
    """Each of ``length`` positions sees the ``past`` ones before them, itself and those between."""
    row, column = jnp.arange(length)[:, None], jnp.arange(past + length)[None, :]
    return (column <= row + past)[None, None]
