"""Rotary position embedding (RoPE; Su et al. 2021), with the scalings of model families.

A scaling stretches the wavelengths of a model for texts that are longer than those it was pretrained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mpt.errors import UserError

Frequencies = Float[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Linear:
    """Stretches every wavelength by ``factor``."""

    factor: float

    def stretched(self, frequency: Frequencies, theta: float) -> Frequencies:
        return _blend(frequency, np.ones(len(frequency)), self.factor)


@dataclass(frozen=True)
class Llama3:
    """Stretches the wavelengths beyond ``context / low``, those within ``context / high`` not at all.

    Attributes:
        context: text length of the pretraining before stretching, as in the classes below.
    """

    factor: float
    low: float
    high: float
    context: int

    def stretched(self, frequency: Frequencies, theta: float) -> Frequencies:
        turns = self.context * frequency / (2 * math.pi)
        share = 1 - np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return _blend(frequency, share, self.factor)


@dataclass(frozen=True)
class Yarn:
    """Stretches the pairs after the one that turns ``slow`` times, those before ``fast`` times not at all.

    In between, the share rises from pair to pair (Peng et al., ICLR 2024).

    Attributes:
        whole: the rise begins and ends at whole pairs.
    """

    factor: float
    slow: float
    fast: float
    context: int
    whole: bool = True

    def stretched(self, frequency: Frequencies, theta: float) -> Frequencies:
        pairs = len(frequency)

        def pair(turns: float) -> float:
            return pairs * math.log(self.context / (2 * math.pi * turns)) / math.log(theta)

        first, last = pair(self.fast), pair(self.slow)
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * pairs - 1)
        share = np.clip((np.arange(pairs) - first) / ((last - first) or 0.001), 0, 1)
        return _blend(frequency, share, self.factor)


@dataclass(frozen=True)
class LongRope:
    """Stretches each pair by a factor of its own (Ding et al., ICML 2024).

    Attributes:
        factors: those for texts within ``context``; longer ones would have others.
    """

    factors: tuple[float, ...]
    context: int

    def stretched(self, frequency: Frequencies, theta: float) -> Frequencies:
        if len(self.factors) != len(frequency):
            raise UserError(f"short_factor must have {len(frequency)} numbers, not {len(self.factors)}")
        return frequency / np.array(self.factors)


@dataclass(frozen=True)
class Proportional:
    """Rotates the first ``share`` of the pairs only, whose wavelengths are those that they have among all."""

    share: float
    factor: float

    def stretched(self, frequency: Frequencies, theta: float) -> Frequencies:
        turning = np.arange(len(frequency)) < int(self.share * 2 * len(frequency) // 2)
        return np.where(turning, frequency / self.factor, 0.0)


@dataclass(frozen=True)
class Rope:
    """The rotation of one layer.

    Attributes:
        theta: base of the geometric series of wavelengths; infinite where a layer does not rotate.
        scaling: how wavelengths are stretched, if they are.
        amplitude: factor on cosines and sines.
        part: the fraction of a head's dimensions that rotates, the first ones.
    """

    theta: float
    scaling: Linear | Llama3 | Yarn | LongRope | Proportional | None = None
    amplitude: float = 1.0
    part: float = 1.0

    def __post_init__(self):
        if not (self.theta > 0 and self.amplitude > 0 and 0 < self.part <= 1):
            raise UserError(f"the rotary embedding's parameters are out of range: {self}")

    @classmethod
    def from_hf(cls, parameters: Mapping[str, Any], longest: int = 0, part: float = 1.0) -> Rope:
        """Reads the ``rope_parameters`` of a Hugging Face config.

        Args:
            longest: the config's ``max_position_embeddings``.
            part: the fraction of a head that rotates.

        Raises:
            UserError: the type of scaling is unknown, or its parameters are out of range.
        """
        kind, theta = parameters["rope_type"], float(parameters["rope_theta"])
        if kind == "default":  # which has no other parameter: transformers, too, passes over all others
            return cls(theta, part=part)
        if kind != "proportional" and parameters.get("partial_rotary_factor", 1.0) not in (part, None):
            raise UserError(f"partial_rotary_factor with rope_type '{kind}' is not supported")
        if kind not in READERS:
            raise UserError(f"rope_type '{kind}' is not supported; default, {', '.join(READERS)} are")
        return cls(theta, *READERS[kind](parameters, longest), part=part)

    def frequencies(self, head_dim: int) -> Frequencies:
        """Radians per position of each pair of the dimensions that rotate.

        >>> Rope(10_000.0, Linear(2.0)).frequencies(4).tolist()
        [0.5, 0.005]
        """
        pairs = int(head_dim * self.part) // 2
        if math.isinf(self.theta):
            return np.zeros(pairs)
        frequency = self.theta ** (-np.arange(pairs) / pairs)
        return self.scaling.stretched(frequency, self.theta) if self.scaling else frequency


STILL = Rope(math.inf)


def _blend(frequency: Frequencies, share: Frequencies, factor: float) -> Frequencies:
    """Frequencies of which a share is divided by ``factor``."""
    return frequency * (1 - share + share / factor)


def _linear(parameters: Mapping[str, Any], longest: int) -> tuple[Linear, float]:
    return Linear(_positive("factor", parameters["factor"])), 1.0


def _llama3(parameters: Mapping[str, Any], longest: int) -> tuple[Llama3, float]:
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    if low >= high:
        raise UserError("high_freq_factor must be above low_freq_factor")
    factor, context = _positive("factor", parameters["factor"]), _context(parameters)
    return Llama3(factor, low, high, context), 1.0


def _yarn(parameters: Mapping[str, Any], longest: int) -> tuple[Yarn, float]:
    factor, context = _factor(parameters, longest), _context(parameters)
    slow, fast = parameters.get("beta_slow") or 1, parameters.get("beta_fast") or 32
    if not 0 < slow < fast:
        raise UserError("beta_fast must be above beta_slow, and both above 0")

    def growth(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    amplitude = parameters.get("attention_factor")
    if amplitude is None:
        one, other = parameters.get("mscale"), parameters.get("mscale_all_dim")
        amplitude = growth(one) / growth(other) if one and other else growth(1)
    return Yarn(factor, slow, fast, context, bool(parameters.get("truncate", True))), amplitude


def _longrope(parameters: Mapping[str, Any], longest: int) -> tuple[LongRope, float]:
    factor, context = _factor(parameters, longest), _context(parameters)
    factors = tuple(_positive("short_factor", number) for number in parameters["short_factor"])
    amplitude = parameters.get("attention_factor")
    if amplitude is None:
        amplitude = math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0
    return LongRope(factors, context), amplitude


def _proportional(parameters: Mapping[str, Any], longest: int) -> tuple[Proportional, float]:
    share = parameters.get("partial_rotary_factor", 1.0)
    if not 0 < share <= 1:
        raise UserError(f"the rotary embedding's partial_rotary_factor is out of range: {share}")
    return Proportional(share, _positive("factor", parameters.get("factor", 1.0))), 1.0


READERS = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "proportional": _proportional,
}


def _context(parameters: Mapping[str, Any]) -> int:
    return int(_positive("original_max_position_embeddings", parameters["original_max_position_embeddings"]))


def _factor(parameters: Mapping[str, Any], longest: int) -> float:
    """By how much longer texts may be than those of the pretraining."""
    factor = parameters.get("factor")
    return _positive("factor", longest / _context(parameters) if factor is None else factor)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise UserError(f"the rotary embedding's {name} is out of range: {value}")
    return value


class Angles(NamedTuple):
    """The cosine and sine of each pair's rotation angle, at some positions.

    Attributes:
        query_scale: factor on the queries there; None: there is none.
    """

    cos: Float[Array, "*any pairs"]
    sin: Float[Array, "*any pairs"]
    query_scale: Float[Array, "*any"] | None = None

    @classmethod
    def at(
        cls,
        positions: Int[Array, "*any"],
        frequency: Float[Array, " pairs"],
        amplitude: float | Float[Array, ""] = 1.0,
    ) -> Angles:
        """The angles position · frequency."""
        angle = positions[..., None].astype(jnp.float32) * frequency.reshape((1,) * positions.ndim + (-1,))
        return cls(amplitude * jnp.cos(angle), amplitude * jnp.sin(angle))


def rotate(x: Float[Array, "*any N H"], by: Angles) -> Float[Array, "*any N H"]:
    """Rotates the halves of each head against one another (Su et al. 2021, section 3.2).

    Where there are fewer angles than pairs, the last dimensions of each head stay as they are.
    """
    cos, sin, pairs = by.cos[..., None, :], by.sin[..., None, :], by.cos.shape[-1]
    x1, x2, rest = jnp.split(x.astype(jnp.float32), [pairs, 2 * pairs], axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin, rest], axis=-1).astype(x.dtype)
