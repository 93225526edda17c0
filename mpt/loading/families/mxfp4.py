"""Experts stored in 4 bits (MXFP4, as gpt-oss is published), read as the numbers that they stand for.

A block is 32 numbers of 4 bits, two to a byte, the first in the lower half; they share a power of two. A
matrix ``name`` is two tensors: ``name_blocks`` [experts, outputs, blocks, 16], and ``name_scales`` [experts,
outputs, blocks].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from mpt.errors import UserError
from mpt.loading.weights import Tensors

BLOCKS, SCALES = "_blocks", "_scales"
BLOCK, BIAS = 32, 127  # numbers of a block; what is added to its exponent

# By the four bits: a sign, two bits of exponent and one of fraction.
NUMBERS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_bytes = np.arange(256)
PAIRS = NUMBERS[np.stack([_bytes & 15, _bytes >> 4], axis=-1)].view(np.uint64)[:, 0]  # both of a byte at once


def in_mxfp4(facts: Mapping[str, Any]) -> bool:
    """Whether a config.json says that its model's experts are stored so."""
    stored = facts.get("quantization_config")
    return (
        facts.get("model_type") == "gpt_oss"
        and isinstance(stored, dict)
        and stored.get("quant_method") == "mxfp4"
    )


class Mxfp4:
    """The tensors of a checkpoint, with those in MXFP4 as matrices [expert, input, output] in bfloat16.

    Args:
        tensors: the stored tensors.
        stored: reads one of any type.

    Raises:
        UserError: blocks and scales do not belong together.
    """

    def __init__(self, tensors: Tensors, stored: Callable[[str], np.ndarray]):
        self._tensors, self._stored = tensors, stored
        names = set(tensors)
        self._packed = {name.removesuffix(BLOCKS) for name in names if name.endswith(BLOCKS)}
        self._packed |= {name.removesuffix(SCALES) for name in names if name.endswith(SCALES)}
        for name in sorted(self._packed):
            for one, other in ((BLOCKS, SCALES), (SCALES, BLOCKS)):
                if name + other not in names:
                    raise UserError(f"{tensors.file(name + one)}: '{name + one}' is there without '{other}'")
            blocks, scales = tensors.shape(name + BLOCKS), tensors.shape(name + SCALES)
            if len(scales) != 3 or blocks != (*scales, BLOCK // 2):
                raise UserError(
                    f"{tensors.file(name + BLOCKS)}: '{name}' has blocks of shape {blocks} and scales of "
                    f"shape {scales}, which do not belong together; fetch it again"
                )

    def __iter__(self) -> Iterator[str]:
        packed = {name + end for name in self._packed for end in (BLOCKS, SCALES)}
        yield from (name for name in self._tensors if name not in packed)
        yield from self._packed

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._packed:
            return self._tensors[name]
        pair = [self._stored(name + end) for end in (BLOCKS, SCALES)]
        if odd := [part for part in pair if part.dtype != np.uint8]:
            raise UserError(f"{self.file(name)}: '{name}' is stored as {odd[0].dtype}, not in bytes")
        matrices = np.empty(self.shape(name), jnp.bfloat16)
        for matrix, blocks, scales in zip(matrices, *pair):  # one by one: in float32 they are twice as large
            matrix[:] = unpacked(blocks, scales).T
        return matrices

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        if name not in self._packed:
            return self._tensors.shape(name)
        experts, outputs, blocks = self._tensors.shape(name + SCALES)
        return experts, blocks * BLOCK, outputs

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._tensors.file(name + BLOCKS if name in self._packed else name)


def unpacked(
    blocks: UInt8[np.ndarray, "F G 16"], scales: UInt8[np.ndarray, "F G"]
) -> Float[np.ndarray, "F _D"]:
    """The rows of one matrix.

    >>> unpacked(np.full((1, 1, 16), 0xF1, np.uint8), np.array([[128]], np.uint8))[0, :4].tolist()
    [1.0, -12.0, 1.0, -12.0]
    """
    numbers = np.take(PAIRS, blocks).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is loaded
        numbers *= np.ldexp(np.float32(1), scales.astype(np.int32) - BIAS)[..., None]
    return numbers.reshape(len(blocks), -1)
