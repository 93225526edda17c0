"""Where the prompt joins the backbone."""

from __future__ import annotations

import jax
from flax import nnx
from jaxtyping import Array, Float

from mpt.models.backbone import Backbone
from mpt.models.layers import Weight
from mpt.prompts.prefix import Prompt
from mpt.types import Batch, Output


class Prompted(nnx.Module):
    """A frozen backbone behind a trained prompt."""

    def __init__(self, backbone: Backbone, prompt: Prompt):
        self.backbone, self.prompt = backbone, prompt

    def __call__(self, batch: Batch) -> Output:
        vectors, index, shift = self.prompt.prefix(batch, self.backbone)
        return self.backbone(batch._replace(prompt_index=index), vectors, shift)


class Distilled(Prompted):
    """A student that also knows its teachers: the same backbone behind other, frozen prompts."""

    def __init__(self, backbone: Backbone, prompt: Prompt, teachers: Float[Array, "J P D"]):
        super().__init__(backbone, prompt)
        self.teachers = Weight(teachers)

    def teach(self, batch: Batch) -> Output:
        return jax.lax.stop_gradient(self.backbone(batch, self.teachers[...]))
