"""Random weights that torch and JAX make alike, each on its own device: no file holds them.

A weight's number in its tensor is scrambled, and a few bits of the outcome are its value. These are whole
numbers times a power of two, which bfloat16 holds exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

CHUNK = 2**24  # weights that torch makes at once: its whole numbers take 8 bytes


def scrambled(index: Any, seed: Any, number: Any = int) -> Any:
    """32 bits of each index (MurmurHash3's last step).

    Args:
        index: 64-bit whole numbers of torch or NumPy; or JAX's uint32, as which ``number`` makes constants.
    """
    mask = number(0xFFFFFFFF)
    bits = (index * number(0x9E3779B1) + seed) & mask
    bits = ((bits ^ (bits >> 16)) * number(0x85EBCA6B)) & mask
    bits = ((bits ^ (bits >> 13)) * number(0xC2B2AE35)) & mask
    return bits ^ (bits >> 16)


def whole_numbers(bits: Any, axes: int) -> tuple[Any, int, float]:
    """A few of the bits, the middle of the numbers that they make, and the factor that makes these weights.

    A matrix's deviate by 0.018 from zero, a norm's scales by 0.04 from one.
    """
    return (bits >> 25, 127, 2.0**-12) if axes > 1 else (bits >> 28, 15, 2.0**-8)


def seed_of(name: str) -> int:
    return zlib.crc32(name.encode())


@partial(jax.jit, static_argnames=("shape",))
def _drawn(seed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    bits = scrambled(jax.lax.iota(jnp.uint32, prod(shape)), seed, jnp.uint32)
    numbers, middle, factor = whole_numbers(bits, len(shape))
    drawn = (2 * numbers.astype(jnp.float32) - middle) * factor
    return (drawn + float(len(shape) == 1)).reshape(shape).astype(jnp.bfloat16)


class RandomTensors:
    """The tensors of a checkpoint that is nowhere, for mpt's loader: made when they are read."""

    def __init__(self, shapes: Mapping[str, list[int]], where: Path):
        self._shapes, self._where = {name: tuple(shape) for name, shape in shapes.items()}, where

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __getitem__(self, name: str) -> Any:
        return _drawn(jnp.uint32(seed_of(name)), self._shapes[name])

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def file(self, name: str) -> Path:
        return self._where


def fill(model: Any) -> None:
    """Gives a torch model these weights, in place."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            flat, seed = weight.view(-1), seed_of(name)
            for start in range(0, weight.numel(), CHUNK):
                part = flat[start : start + CHUNK]
                index = torch.arange(start, start + part.numel(), device=weight.device)
                numbers, middle, factor = whole_numbers(scrambled(index, seed), weight.ndim)
                drawn = (2 * numbers.float() - middle) * factor + float(weight.ndim == 1)
                part.copy_(drawn.to(torch.bfloat16))
