"""Rotary position embedding (RoPE; Su et al. 2021), with the scalings of model families."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mpt.errors import UserError


@dataclass(frozen=True)
class Rope:
    """The rotation frequencies of one layer.

    Attributes:
        theta: base of the geometric series of wavelengths.
        factor: by how much long wavelengths are stretched.
        low: Llama 3: wavelengths beyond ``context / low`` are stretched by the whole factor, ...
        high: ... those within ``context / high`` not at all. Equal bounds stretch every one.
        context: text length of the pretraining before stretching.
    """

    theta: float
    factor: float = 1.0
    low: float = 0.0
    high: float = 0.0
    context: int = 1

    def __post_init__(self):
        if not (self.theta > 0 and self.factor > 0 and self.low <= self.high and self.context > 0):
            raise UserError(f"the rotary embedding's parameters are out of range: {self}")

    @classmethod
    def from_hf(cls, parameters: Mapping[str, Any]) -> Rope:
        """Reads the ``rope_parameters`` of a Hugging Face config.

        Raises:
            UserError: the type of scaling is unknown.
        """
        kind, theta = parameters["rope_type"], float(parameters["rope_theta"])
        if kind == "default":  # which has no other parameter: transformers, too, passes over all others
            return cls(theta)
        if parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise UserError(f"partial_rotary_factor with rope_type '{kind}' is not supported")
        if kind == "linear":
            return cls(theta, parameters["factor"])
        if kind == "llama3":
            low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
            if low >= high:
                raise UserError("high_freq_factor must be above low_freq_factor")
            return cls(theta, parameters["factor"], low, high, parameters["original_max_position_embeddings"])
        raise UserError(f"rope_type '{kind}' is not supported; default, linear and llama3 are")

    def frequencies(self, head_dim: int) -> Float[np.ndarray, " half"]:
        """Radians per position of each pair of a head's dimensions.

        >>> Rope(10_000.0, factor=2.0).frequencies(4).tolist()
        [0.5, 0.005]
        """
        half = head_dim // 2
        frequency = self.theta ** (-np.arange(half) / half)
        if self.low == self.high:
            stretched = np.ones(half)
        else:
            turns = self.context * frequency / (2 * math.pi)
            stretched = 1 - np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return frequency * (1 - stretched + stretched / self.factor)


class Angles(NamedTuple):
    """The cosine and sine of each pair's rotation angle, at some positions."""

    cos: Float[Array, "*any half"]
    sin: Float[Array, "*any half"]

    @classmethod
    def at(cls, positions: Int[Array, "*any"], frequency: Float[Array, " half"]) -> Angles:
        """The angles position · frequency."""
        angle = positions[..., None].astype(jnp.float32) * frequency.reshape((1,) * positions.ndim + (-1,))
        return cls(jnp.cos(angle), jnp.sin(angle))


def rotate(x: Float[Array, "*any N H"], by: Angles) -> Float[Array, "*any N H"]:
    """Rotates the halves of each head against one another (Su et al. 2021, section 3.2)."""
    cos, sin = by.cos[..., None, :], by.sin[..., None, :]
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)
