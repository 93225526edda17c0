"""Prompt tuning (Lester et al., EMNLP 2021), and MPT's adaptation of a universal prompt."""

from __future__ import annotations

from flax import nnx

from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting, no_shared_part
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt, Words
from mpt.prompts.initial import instruction_words
from mpt.prompts.multitask import FACTORS
from mpt.prompts.prompted import Prompted
from mpt.prompts.source import Startable
from mpt.prompts.universal_prefix import UniversalPrefix


def start(setting: Setting) -> Start:
    """From a universal prompt (Wang et al., ICLR 2023, section 3.3), or from scratch."""
    prompt = setting.start_of_source() if setting.source else _from_scratch(setting)
    if (setting.freeze_shared or setting.joint) and not (
        setting.source and isinstance(prompt, MultitaskPrompt)
    ):
        raise no_shared_part("freeze_shared" if setting.freeze_shared else "also")
    parts = FACTORS if setting.freeze_shared else PromptParam
    trainable = nnx.Any(parts, Words) if setting.train.word_rate else parts
    return Start(Prompted(setting.pretrained.backbone, prompt), setting.origin, trainable)


def _from_scratch(setting: Setting) -> Startable:
    """Plain vectors; in every layer or with an instruction after them, the same start as in pretraining."""
    vectors, layer, pretrained = setting.new_vectors(), setting.vectors.layer, setting.pretrained
    words = None
    if setting.instruction:
        words = instruction_words(setting.tasks, setting.instruction, pretrained, layer)
    if setting.vectors.every_layer:
        return UniversalPrefix.start(pretrained.backbone, vectors, vectors[:, :0] if words is None else words)
    if words is None:
        return SoftPrompt(vectors, layer)
    factors = MultitaskPrompt.start(vectors[0], len(vectors), setting.vectors.rank, setting.key)
    return MultitaskPrompt(vectors, factors.u[...], factors.v[...], words, layer)


METHOD = Method("prompt", "prompt", start, has_shared_part=True, late=True, every_layer=True, compared=False)
