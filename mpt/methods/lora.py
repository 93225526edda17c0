"""LoRA (Hu et al., ICLR 2022): W becomes W + A B, with trained low-rank A and B beside each frozen matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flax import nnx

from mpt.config.options import at_least_1
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.lora import Lora, LoraParam, with_lora
from mpt.prompts import PlainPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import saved_as

saved_as("lora")(Lora)


@dataclass(frozen=True)
class LoraConfig:
    """LoRA: low-rank updates of the backbone's matrices."""

    rank: int = 8
    """Rank of each update."""
    matrices: Literal["attention", "all"] = "attention"
    """Which matrices have an update: those of attention, or those of the feed-forward layers as well."""
    rate: float = 0.0005
    """Adam's peak learning rate."""

    def __post_init__(self):
        at_least_1(rank=self.rank)


def start(setting: Setting) -> Start:
    """A random, B zero: the backbone starts as it is, behind the task's instruction."""
    options: LoraConfig = setting.options
    backbone = with_lora(setting.pretrained.backbone, options.rank, options.matrices, setting.key)
    return Start(Prompted(backbone, setting.frozen_prompt()), "the backbone", LoraParam, options.rate)


def keep(model: Prompted) -> nnx.Module:
    """The updates, and the frozen vectors in front of the text."""
    assert isinstance(model.prompt, PlainPrompt)
    return Lora.of(model.backbone, model.prompt.compose())


METHOD = Method("lora", "LoRA", start, LoraConfig, ("rate",), side_by_side=False, keep=keep)
