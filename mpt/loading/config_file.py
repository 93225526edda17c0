"""Reads a model's config.json and other JSON files, and refuses what mpt does not compute."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from mpt.errors import UserError, one_line
from mpt.loading.families import FAMILIES
from mpt.loading.families.mxfp4 import in_mxfp4
from mpt.loading.families.text_half import MULTIMODAL, text_config
from mpt.loading.fields import parts, refuse_unknown


def read_json(file: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        UserError: it cannot be read, is not JSON, or holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not readable as JSON ({one_line(error)}); fetch it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: must hold a JSON object, not a {type(found).__name__}; fetch it again")
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def read_config(folder: Path) -> PreTrainedConfig:
    """Reads the config.json of a model's folder; code that comes with the model is never run.

    Returns:
        The config of the model, or of the text half of one that reads images too.

    Raises:
        UserError: the file is missing or faulty, or asks for a model that mpt does not compute.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder}: no config.json; give a Hugging Face model folder or a .gguf file")
    facts = read_json(file)
    kind = facts.get("model_type")
    known = sorted([*FAMILIES, *MULTIMODAL])
    if not isinstance(kind, str) or kind not in known:
        raise UserError(f"{folder}: model type {kind!r} is not supported; {', '.join(known)} are")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each class of transformers' raises its own types
        raise UserError(f"{file}: transformers cannot read it: {one_line(error)}") from None
    if config.model_type != kind:  # such as a Mistral with types of layers
        raise UserError(f"{folder}: it is of the type '{config.model_type}', which is not supported")
    if in_mxfp4(facts):
        config.quantization_config = None  # its tensors are read as what they stand for
    for part in (config, *parts(config)):
        refuse_unknown(part, file)
    if kind not in MULTIMODAL:
        return config
    try:
        text = text_config(config)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    refuse_unknown(text, file)
    return text
