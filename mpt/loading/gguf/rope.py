"""The rotary embedding of a GGUF file, as Hugging Face's configs describe it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mpt.errors import UserError
from mpt.loading.gguf.fields import Own

# Tensors that are no weights, but factors of the wavelengths: for every text (Llama 3), or for short ones.
SAME, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
ROPE_TENSORS = (SAME, SHORT, LONG)
NO_ROTATION = np.float32(1e30)

Field = Callable[[str, Any], Any]  # a name after "rope.scaling.", and a default -> the value


def rope_parameters(own: Own, theta: float = 10_000.0, shared: float = 0.0) -> dict[str, Any]:
    """What the converted model computes with, and where the file says nothing of it, what llama.cpp does.

    Args:
        theta: the base where the file says nothing of it.
        shared: of YaRN's growth of attention, the weight of what is taken back (``mscale_all_dim``).

    Raises:
        UserError: the file asks for a rotation that mpt does not compute.
    """
    of_scaling = f"{own.name}.rope.scaling."

    def field(name: str, default: Any) -> Any:
        return own.fields.get(of_scaling + name, default)

    # The older field is a factor, too, and a factor without a type is a linear one.
    kind = field("type", "linear")
    factor = field("factor", own.get("rope.scale_linear", 0.0)) or 1.0
    longest = own.get("context_length", 0)
    if own.factors:
        scaling = _by_pair(own, field, longest)
    elif kind == "yarn":
        scaling = _yarn(factor, shared, field, longest, of_scaling)
    elif kind == "linear" and factor != 1.0:
        scaling = {"rope_type": "linear", "factor": factor}
    else:
        scaling = {"rope_type": "default"}
    if kind not in ("none", "linear", "yarn") and not own.factors and factor != 1.0:
        raise UserError(f"{of_scaling}type '{kind}' is not supported; linear and yarn are")
    if kind != "none" and own.factors and factor != 1.0:
        raise UserError(f"{of_scaling}factor is {factor}, and the file has {min(own.factors)}, too")
    if "attention_factor" not in scaling and (given := field("attn_factor", 1.0)) != 1.0:
        raise UserError(f"{of_scaling}attn_factor is {given!r}, and mpt computes with 1.0 only")
    return {"rope_theta": own.get("rope.freq_base", theta), **scaling}


def proportional(own: Own) -> dict[str, Any]:
    """A rotation in which the last pairs have no part: their factors in the file are 1e30.

    Raises:
        UserError: there are no such factors, other ones, or a scaling besides.
    """
    factors = own.factors.get(SAME, np.empty(0))
    rotating = int((factors == 1).sum())
    if not (rotating and (factors[:rotating] == 1).all() and (factors[rotating:] >= NO_ROTATION).all()):
        raise UserError(f"{SAME} does not hold ones, and then {NO_ROTATION:g} for pairs that do not rotate")
    whole = rope_parameters(own._replace(factors={}))
    if whole["rope_type"] != "default":
        raise UserError(f"{own.name}.rope.scaling.factor is not supported here")
    part = rotating / len(factors)
    return {**whole, "rope_type": "proportional", "partial_rotary_factor": part}


def _by_pair(own: Own, field: Field, longest: int) -> dict[str, Any]:
    factors = own.factors
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


def _yarn(factor: float, shared: float, field: Field, longest: int, of_scaling: str) -> dict[str, Any]:
    """The amplitude follows from the factor; llama.cpp's converter writes one that llama.cpp does not use."""
    if (share := field("yarn_ext_factor", 1.0)) not in (1.0, -1.0):
        raise UserError(f"{of_scaling}yarn_ext_factor is {share!r}, and mpt computes with 1.0 only")
    amplitude = _growth(factor) / _growth(factor, shared)
    if not math.isclose(given := field("yarn_attn_factor", amplitude), amplitude, rel_tol=1e-5):
        raise UserError(f"{of_scaling}yarn_attn_factor is {given!r}, and mpt computes with {amplitude} here")
    return {
        "rope_type": "yarn",
        "factor": factor,
        "beta_fast": field("yarn_beta_fast", 32.0),
        "beta_slow": field("yarn_beta_slow", 1.0),
        "original_max_position_embeddings": field("original_context_length", longest),
        "attention_factor": field("attn_factor", 1.0) * amplitude,
    }


def _growth(factor: float, weight: float = 1.0) -> float:
    """By how much YaRN's attention grows with the text's length (Peng et al., ICLR 2024, section 3.4)."""
    return 1 + 0.1 * weight * math.log(max(factor, 1.0))
