"""A backbone together with the prompt before its texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from mpt.models.backbone import Backbone
from mpt.models.layers import Weight
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.prefix import Prompt
from mpt.types import Batch, Output


class Prompted(nnx.Module):
    """A frozen backbone with a trained prompt before every row."""

    def __init__(self, backbone: Backbone, prompt: Prompt):
        self.backbone, self.prompt = backbone, prompt

    def __call__(self, batch: Batch) -> Output:
        """The logits at the label positions of a batch, and its final hidden states."""
        prefix = self.prompt.prefix(batch, self.backbone)
        batch = batch._replace(prompt_index=prefix.prompt_index)
        output = self.backbone(batch, prefix.vectors, prefix.shift, prefix.kv, prefix.layer)
        if batch.classes is None or not isinstance(self.prompt, HeadedPrompt):
            return output
        return output._replace(classes=self.prompt.class_scores(batch, output, self.backbone))


class Distilled(Prompted):
    """A student with its teachers: the same backbone with other, frozen prompts, one per task.

    All prompts are inserted before the same layer.
    """

    def __init__(self, backbone: Backbone, prompt: Prompt, teachers: Float[Array, "J P D"]):
        super().__init__(backbone, prompt)
        self.teachers = Weight(teachers)

    def teach(self, batch: Batch) -> Output:
        """The teachers' outputs on a batch, without a gradient."""
        return jax.lax.stop_gradient(self.backbone(batch, self.teachers[...], layer=self.prompt.layer))


def take_prompts(prompt: Prompt, indices: Sequence[int] | Int[np.ndarray, " prompts"]) -> Prompt:
    """Selects some of several prompts: every array has one for each along its first axis."""
    assert isinstance(prompt, nnx.Module)
    graph, state = nnx.split(prompt)
    return nnx.merge(graph, jax.tree.map(lambda array: array[np.array(indices)], state))


@runtime_checkable
class Beside(Protocol):
    """The saved form of a method that also changes the backbone."""

    def beside(self, backbone: Backbone) -> Prompted:
        """The changed backbone, with the prompt before its texts."""
        ...


def joined(saved: nnx.Module, backbone: Backbone) -> Prompted:
    """Combines a backbone with what was saved for it: a prompt, or also changes of its matrices."""
    if isinstance(saved, Beside):
        return saved.beside(backbone)
    assert isinstance(saved, Prompt)
    return Prompted(backbone, saved)
