"""A strict way from named tensors to a backbone's weights: all of them, each once, in shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from mpt.errors import UserError

Model = TypeVar("Model", bound=nnx.Module)
Table = Mapping[str, tuple[str, str]]


def load_weights(
    model: Model, tensors: Mapping[str, np.ndarray], table: Table, sizes: Mapping[str, int], where: str
) -> Model:
    """Fills an abstract model from ``tensors``, one at a time.

    Args:
        model: a model whose weights are shapes only (``nnx.eval_shape``).
        tensors: the checkpoint, read lazily by name.
        table: checkpoint name, with "{}" for the layer -> path in the model, and an einops pattern.
        sizes: the lengths that the patterns need.
        where: the file or folder, for error messages.

    Raises:
        UserError: names every tensor that is missing, left over or wrongly shaped.
    """
    graph, state = nnx.split(model)
    targets = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
    patterns = {re.compile(re.escape(name).replace(r"\{\}", r"(\d+)")): to for name, to in table.items()}
    faults, filled, sources = [], {}, {}
    for name in tensors:
        matches = [(m, to) for pattern, to in patterns.items() if (m := pattern.fullmatch(name))]
        if not matches or matches[0][1][0] not in targets:
            faults.append(f"'{name}' has no place in the model")
            continue
        match, (target, layout) = matches[0]
        sources.setdefault(target, {})[int(match[1]) if match.groups() else 0] = (name, layout)

    for target, leaf in targets.items():
        stacked = target.startswith("layers.")
        shape = leaf.shape[1:] if stacked else leaf.shape
        found = sources.get(target, {})
        buffer = np.empty(leaf.shape if stacked else (1, *leaf.shape), leaf.dtype)
        for layer in range(len(buffer)):
            if layer not in found:
                name = next(name for name, to in table.items() if to[0] == target)
                faults.append(f"'{name.format(layer)}' is missing")
                continue
            name, layout = found[layer]
            fault = _place(buffer[layer], tensors[name], layout, sizes)
            if fault:
                faults.append(f"'{name}' {fault}, the config asks for {shape} laid out as '{layout}'")
        if extra := sorted(set(found) - set(range(len(buffer)))):
            faults.append(f"'{found[extra[0]][0]}' is of a layer beyond the config's {len(buffer)}")
        if not faults:
            filled[target] = jnp.asarray(buffer if stacked else buffer[0])
    if faults:
        raise UserError(f"{where}: {'; '.join(faults[:8])}{_more(faults[8:])}")
    leaves = {path: leaf.replace(filled[".".join(map(str, path))]) for path, leaf in nnx.to_flat_state(state)}
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def _place(slot: np.ndarray, tensor: np.ndarray, layout: str, sizes: Mapping[str, int]) -> str:
    """Writes a tensor into its slot; returns what is wrong with its shape, if anything."""
    named = {name: size for name, size in sizes.items() if re.search(rf"\b{name}\b", layout)}
    try:
        arranged = rearrange(tensor, layout, **named)
    except Exception:  # einops raises its own error type for every misfit
        return f"has shape {tensor.shape}"
    if arranged.shape != slot.shape:
        return f"has shape {tensor.shape}"
    slot[...] = arranged
    return ""


def _more(faults: list[str]) -> str:
    return f"; and {len(faults)} more" if faults else ""
