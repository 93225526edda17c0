"""The plain soft prompt (Lester et al., EMNLP 2021): free vectors in front of the input."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from flax import nnx
from jaxtyping import Array, Float


class PromptParam(nnx.Variable):
    """A trained part of a prompt. Training, optimizer and checkpoints select by this type."""


@runtime_checkable
class Prompt(Protocol):
    """What every prompt offers."""

    def compose(self) -> Float[Array, "J P D"]: ...


class SoftPrompt(nnx.Module):
    """Independent prompts, one per task, trained side by side.

    Args:
        vectors: their starting values.
    """

    def __init__(self, vectors: Float[Array, "J P D"]):
        self.vectors = PromptParam(vectors)

    def compose(self) -> Float[Array, "J P D"]:
        return self.vectors[...]
