"""Where the prompt joins the backbone."""

from __future__ import annotations

from flax import nnx

from mpt.data.batches import Batch
from mpt.models.backbone import Backbone
from mpt.models.output import Output
from mpt.prompts.soft import Prompt


class Prompted(nnx.Module):
    """A frozen backbone behind a trained prompt."""

    def __init__(self, backbone: Backbone, prompt: Prompt):
        self.backbone, self.prompt = backbone, prompt

    def __call__(self, batch: Batch) -> Output:
        return self.backbone(batch, self.prompt.compose())
