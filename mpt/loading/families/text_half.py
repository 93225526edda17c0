"""The text half of models that read images too: config and tensors, as a model of texts alone has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import PreTrainedConfig

from mpt.errors import UserError, warn
from mpt.loading.families import FAMILIES
from mpt.loading.weights import Tensors

# The types of config whose `text_config` is that of a family.
MULTIMODAL = ("gemma3", "gemma4", "mistral3", "qwen3_5", "qwen3_vl")

# Those whose checkpoints have tensors of images; the last one's text half is an encoder with its decoder.
READS_IMAGES = (*MULTIMODAL, "t5gemma2")

# How the names of the text half begin, and what a model of texts alone has instead; older checkpoints first.
TEXT = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
    "model.encoder.text_model.": "model.encoder.",
}
# How the others begin, with or without "model." or "model.encoder." before.
IMAGES = ("vision_tower.", "multi_modal_projector.", "visual.", "embed_vision.")
SOUNDS = ("audio_tower.", "embed_audio.")


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of the text half.

    Raises:
        UserError: mpt does not compute models of its type.
    """
    text: PreTrainedConfig = config.text_config
    kind = type(text).model_type  # which is what transformers computes, whatever the file calls it
    if text.model_type != kind:
        raise UserError(f"text_config: model type '{text.model_type}' is not supported; '{kind}' is here")
    if kind not in FAMILIES:
        raise UserError(f"text_config: model type '{kind}' is not supported")
    # transformers leaves it out of the whole of a Gemma 3
    if kind == "gemma3_text" and text.final_logit_softcapping is not None:
        raise UserError("text_config: final_logit_softcapping is not supported; remove it")
    text.tie_word_embeddings = config.tie_word_embeddings  # which is what counts for the whole
    return text


class TextHalf:
    """The tensors of a checkpoint without those that read images, by the names of a model of texts alone."""

    def __init__(self, whole: Tensors, where: Path):
        names = [name for name in whole if not _bare(name).startswith(IMAGES + SOUNDS)]
        self._whole, self._names = whole, {_renamed(name): name for name in names}
        if aside := len(set(whole)) - len(names):
            warn(f"{where}: {aside} tensors for images are ignored; mpt uses only the text model")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._whole[self._names[name]]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._whole.shape(self._names[name])

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._whole.file(self._names[name])


def _bare(name: str) -> str:
    return name.removeprefix("model.").removeprefix("encoder.")


def _renamed(name: str) -> str:
    for theirs, ours in TEXT.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
