"""The families of models that mpt runs: how to read their configs and their tensors' names.

To add a family, write a function that turns its config into a spec in ``decoder_specs.py``, and a table of
its tensors' names in ``tensor_names.py`` if none fits; then add both to ``FAMILIES``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedConfig

from mpt.errors import UserError, one_line
from mpt.loading.families.decoder_specs import (
    gemma2,
    gemma3,
    gemma4,
    gpt2,
    gpt_oss,
    granite,
    llama,
    ministral3,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_5,
    qwen3_moe,
    smollm3,
)
from mpt.loading.families.t5_specs import mt5, t5, umt5
from mpt.loading.families.t5gemma_specs import t5gemma, t5gemma2
from mpt.loading.families.tensor_names import (
    COPIES,
    GEMMA4_TABLE,
    GEMMA_TABLE,
    GPT2_TABLE,
    GPT_OSS_TABLE,
    HEADS,
    LLAMA_TABLE,
    MOE_TABLE,
    OLMO_TABLE,
    PHI_TABLE,
    QWEN3_5_TABLE,
    T5_COPIES,
    T5_TABLE,
    T5GEMMA2_COPIES,
    T5GEMMA2_TABLE,
    T5GEMMA_COPIES,
    T5GEMMA_TABLE,
    UMT5_TABLE,
)
from mpt.loading.weights import Table, Tensors
from mpt.models.decoder import Decoder
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.t5 import T5
from mpt.models.encoder_decoder.t5gemma import T5Gemma


@dataclass(frozen=True)
class Family:
    """How to read the models of one ``model_type``.

    Attributes:
        module: the class of the backbone.
        spec: a function from a config and the names of the checkpoint's tensors to the backbone's spec; the
            names are without those of ``copies``.
        table: the names of the tensors.
        prefix: a prefix of these names, which checkpoints without a head leave out.
        not_needed: of the spec and a checkpoint's names, those that the model does not use.
        recurring: of tied weights, other names under which checkpoints may store them, and their paths.
    """

    module: type[Decoder] | type[T5] | type[T5Gemma]
    spec: Callable[[PreTrainedConfig, Collection[str]], Any]
    table: Table
    prefix: str = ""
    not_needed: Callable[[Any, Collection[str]], set[str]] = lambda spec, names: set()
    recurring: Mapping[str, str] = field(default_factory=lambda: COPIES)

    def spec_of(self, config: PreTrainedConfig, names: Collection[str], where: Path) -> Any:
        """The spec of ``module``.

        Args:
            names: the checkpoint's tensors, without ``copies``.
            where: the file or folder of the model, for the error.

        Raises:
            UserError: the config asks for what mpt does not compute, or fits no model.
        """
        try:
            return self.spec(config, names)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except Exception as error:  # a value that no model has, such as a rope without its base
            raise UserError(f"{where}: the config describes no model ({one_line(error)})") from None

    def table_of(self, names: Collection[str]) -> dict[str, tuple[str, str] | None]:
        """The table for one checkpoint, with the prefix that its names have."""
        prefix = self._prefix_of(names)
        return {name if name in HEADS else prefix + name: to for name, to in self.table.items()}

    def copies(self, config: PreTrainedConfig, tensors: Tensors) -> set[str]:
        """The names under which a checkpoint stores tied weights once more; they need not be read.

        Of other values, such a tensor is no copy: a head is then used, as transformers does, and a table of
        the encoder's or decoder's own has no place in the model.
        """
        names, found = set(tensors), set()
        if not config.tie_word_embeddings:
            return found
        prefix, of_path = self._prefix_of(names), {to[0]: name for name, to in self.table.items() if to}
        for name in names & self.recurring.keys():
            first = prefix + of_path[self.recurring[name]]
            alike = first in names and tensors.shape(name) == tensors.shape(first)
            if alike and np.array_equal(tensors[name], tensors[first]):
                found.add(name)
        return found

    def _prefix_of(self, names: Collection[str]) -> str:
        return self.prefix if any(name.startswith(self.prefix) for name in names) else ""


def guesses_of_later_tokens(spec: Any, names: Collection[str]) -> set[str]:
    """The layers that guess several tokens at once; transformers leaves them aside, too."""
    return {name for name in names if name.startswith("mtp.")}


def keys_of_borrowers(spec: DecoderSpec, names: Collection[str]) -> set[str]:
    """Keys and values of layers that read those of others, which published checkpoints have all the same."""
    borrowers = {str(i) for i, kind in enumerate(spec.layer_kinds) if spec.stacks[kind].shares}
    pattern = re.compile(r"(?:model\.)?layers\.(\d+)\.self_attn\.[kv]_(?:proj|norm)\.(?:weight|bias)")
    return {name for name in names if (found := pattern.fullmatch(name)) and found[1] in borrowers}


FAMILIES = {
    "gemma2": Family(Decoder, gemma2, GEMMA_TABLE, "model."),
    "gemma3_text": Family(Decoder, gemma3, GEMMA_TABLE, "model."),
    "gemma4_text": Family(Decoder, gemma4, GEMMA4_TABLE, "model.", keys_of_borrowers),
    "gpt2": Family(Decoder, gpt2, GPT2_TABLE, "transformer."),
    "gpt_oss": Family(Decoder, gpt_oss, GPT_OSS_TABLE, "model."),
    "granite": Family(Decoder, granite, LLAMA_TABLE, "model."),
    "llama": Family(Decoder, llama, LLAMA_TABLE, "model."),
    "ministral3": Family(Decoder, ministral3, LLAMA_TABLE, "model."),
    "mistral": Family(Decoder, llama, LLAMA_TABLE, "model."),
    "mt5": Family(T5, mt5, T5_TABLE, recurring=T5_COPIES),
    "olmo2": Family(Decoder, olmo2, OLMO_TABLE, "model."),
    "olmo3": Family(Decoder, olmo2, OLMO_TABLE, "model."),
    "phi3": Family(Decoder, phi3, PHI_TABLE, "model."),
    "qwen2": Family(Decoder, qwen2, LLAMA_TABLE, "model."),
    "qwen3": Family(Decoder, qwen3, LLAMA_TABLE, "model."),
    "qwen3_5_text": Family(Decoder, qwen3_5, QWEN3_5_TABLE, "model.", guesses_of_later_tokens),
    "qwen3_moe": Family(Decoder, qwen3_moe, MOE_TABLE, "model."),
    "qwen3_vl_text": Family(Decoder, qwen3, LLAMA_TABLE, "model."),
    "smollm3": Family(Decoder, smollm3, LLAMA_TABLE, "model."),
    "t5": Family(T5, t5, T5_TABLE, recurring=T5_COPIES),
    "t5gemma": Family(T5Gemma, t5gemma, T5GEMMA_TABLE, "model.", recurring=T5GEMMA_COPIES),
    "t5gemma2": Family(T5Gemma, t5gemma2, T5GEMMA2_TABLE, "model.", recurring=T5GEMMA2_COPIES),
    "umt5": Family(T5, umt5, UMT5_TABLE, recurring=T5_COPIES),
}
