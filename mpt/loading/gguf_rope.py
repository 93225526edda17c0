"""The rotary embedding of a GGUF file, as Hugging Face's configs describe it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mpt.errors import UserError

# Tensors that are no weights, but factors of the wavelengths: for every text (Llama 3), or for short ones.
SAME, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
ROPE_TENSORS = (SAME, SHORT, LONG)

Field = Callable[[str, Any], Any]  # a name after "rope.scaling.", and a default -> the value


def rope_parameters(
    architecture: str,
    fields: Mapping[str, Any],
    factors: Mapping[str, np.ndarray],
    theta: float = 10_000.0,
) -> dict[str, Any]:
    """What llama.cpp computes with.

    Args:
        architecture: the name with which the fields of the embedding begin.
        factors: those of ``ROPE_TENSORS`` that the file has.
        theta: the base where the file says nothing of it.

    Raises:
        UserError: the file asks for a rotation that mpt does not compute.
    """
    of_scaling = f"{architecture}.rope.scaling."

    def field(name: str, default: Any) -> Any:
        return fields.get(of_scaling + name, default)

    # The older field is a factor, too, and a factor without a type is a linear one.
    kind = field("type", "linear")
    factor = field("factor", fields.get(f"{architecture}.rope.scale_linear", 0.0)) or 1.0
    longest = fields.get(f"{architecture}.context_length", 0)
    if factors:
        scaling = _by_pair(factors, field, longest)
    elif kind == "yarn":
        scaling = _yarn(factor, field, longest, of_scaling)
    elif kind == "linear" and factor != 1.0:
        scaling = {"rope_type": "linear", "factor": factor}
    else:
        scaling = {"rope_type": "default"}
    if kind not in ("none", "linear", "yarn") and not factors and factor != 1.0:
        raise UserError(f"{of_scaling}type '{kind}' is not supported; linear and yarn are")
    if kind == "linear" and factors and factor != 1.0:
        raise UserError(f"{of_scaling}factor is {factor}, and the file has {min(factors)}, too")
    if "attention_factor" not in scaling and (given := field("attn_factor", 1.0)) != 1.0:
        raise UserError(f"{of_scaling}attn_factor is {given!r}, and mpt computes with 1.0 only")
    return {"rope_theta": fields.get(f"{architecture}.rope.freq_base", theta), **scaling}


def _by_pair(factors: Mapping[str, np.ndarray], field: Field, longest: int) -> dict[str, Any]:
    within, short = (
        (longest, factors[SAME])
        if SAME in factors
        else (field("original_context_length", longest), factors[SHORT])
    )
    return {
        "rope_type": "longrope",
        "short_factor": short.tolist(),
        "long_factor": factors.get(LONG, short).tolist(),
        "original_max_position_embeddings": within,
        "attention_factor": field("attn_factor", 1.0),
    }


def _yarn(factor: float, field: Field, longest: int, of_scaling: str) -> dict[str, Any]:
    if (share := field("yarn_ext_factor", 1.0)) not in (1.0, -1.0):
        raise UserError(f"{of_scaling}yarn_ext_factor is {share!r}, and mpt computes with 1.0 only")
    amplitude = field("attn_factor", 1.0) * field("yarn_attn_factor", 1.0)
    return {
        "rope_type": "yarn",
        "factor": factor,
        "beta_fast": field("yarn_beta_fast", 32.0),
        "beta_slow": field("yarn_beta_slow", 1.0),
        "original_max_position_embeddings": field("original_context_length", longest),
        "attention_factor": amplitude * (1 + 0.1 * math.log(max(factor, 1.0))),
    }
