"""What several families read of their configs alike."""

from __future__ import annotations

from collections.abc import Collection

from transformers import PreTrainedConfig

from mpt.errors import UserError
from mpt.loading.families.tensor_names import HEADS
from mpt.models.layers import ACTIVATIONS


def tied(config: PreTrainedConfig, tensors: Collection[str]) -> bool:
    """Whether the embedding is the head: a head of its own in the file counts more than the config's flag."""
    return config.tie_word_embeddings and not HEADS.intersection(tensors)


def activation(name: str) -> str:
    """The name of an activation, if mpt has it."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation '{name}' is not supported; {', '.join(ACTIVATIONS)} are")
    return name
