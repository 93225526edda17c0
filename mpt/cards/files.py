"""A prompt's two files: its tensors, and its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from mpt.cards.card import Card
from mpt.errors import UserError

# The dimension of a tensor that is the number of vectors, by the kinds that new tasks can start from.
LENGTHS = {
    "soft": {"vectors": 1},
    "multitask": {"shared": 1, "words": 1},
    "universal prefix": {"keys": 2, "words": 1},
}


def read_files(
    where: str, vectors: Callable[[], bytes], card: Callable[[], bytes]
) -> tuple[Mapping[str, np.ndarray], Card]:
    """A prompt's tensors by their names, and its card.

    Raises:
        UserError: its files do not hold a whole prompt; ``where`` is its name.
    """
    try:
        tensors: Mapping[str, np.ndarray] = load(vectors())
        if not all(np.isfinite(value).all() for value in tensors.values()):
            raise ValueError("it holds values that are not finite numbers")
        return tensors, Card.read(card())
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise damaged(where, error) from None


def damaged(where: str, error: Exception) -> UserError:
    """That a prompt's files are not whole."""
    return UserError(f"{where}: not a whole prompt of mpt ({error}); train it again")


def length(tensors: Mapping[str, np.ndarray], kind: str) -> int:
    """The number of vectors of a prompt that new tasks can start from, its words among them."""
    return sum(tensors[name].shape[axis] for name, axis in LENGTHS[kind].items() if name in tensors)
