"""The plain soft prompt (Lester et al., EMNLP 2021): free vectors in front of the input."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Float

from mpt.prompts.prefix import PlainPrompt


class PromptParam(nnx.Variable):
    """A trained part of a prompt. Training, optimizer and checkpoints select by this type."""


class SoftPrompt(PlainPrompt):
    """Independent prompts, one per task, trained side by side.

    Args:
        vectors: their starting values.
        layer: the layer before which they enter.

    >>> import jax.numpy as jnp
    >>> SoftPrompt(jnp.zeros((2, 16, 576))).compose().shape
    (2, 16, 576)
    """

    def __init__(self, vectors: Float[Array, "J P D"], layer: int = 0):
        self.vectors, self.layer = PromptParam(vectors), layer

    def compose(self) -> Float[Array, "J P D"]:
        return self.vectors[...]
