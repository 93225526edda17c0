"""Full fine-tuning: every weight of the backbone is trained. The model is scored, but not saved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mpt.config.methods import FullConfig
from mpt.errors import UserError
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.backbone import Backbone
from mpt.models.layers import Weight
from mpt.models.quantize import is_quantized
from mpt.prompts.prompted import Prompted


def start(setting: Setting) -> Start:
    """The unchanged backbone, with the task's instruction before the text."""
    backbone = setting.pretrained.backbone
    if is_quantized(backbone):
        raise UserError("method full: 8-bit weights cannot be trained; leave out --model.weights")
    backbone = in_float32(backbone)
    trained = nnx.All(Weight, nnx.PathContains("backbone"))
    return Start(Prompted(backbone, setting.frozen_prompt()), "the backbone", trained, setting.options.rate)


def in_float32(backbone: Backbone) -> Backbone:
    """The backbone with weights in float32: in bfloat16, most of a small step would be rounded away."""
    graph, weights = nnx.split(backbone)
    return nnx.merge(graph, jax.tree.map(lambda x: x.astype(jnp.float32), weights))


METHOD = Method("full", "full fine-tuning", start, FullConfig, ("rate",), side_by_side=False, keep=None)
