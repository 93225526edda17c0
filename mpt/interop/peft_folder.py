"""A prompt as a folder of PEFT's: a config in JSON and vectors in safetensors, never a pickle.

PEFT has S prompts of V vectors each: the second, where S is 2, is for an encoder-decoder's decoder.
PEFT trains it in multitask prompts only, and no ``generate()`` of its reads it, so mpt writes S = 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mpt.errors import UserError, first_line
from mpt.prompts import MultitaskPrompt
from mpt.rundir.directory import write_whole
from mpt.types import Layout

CONFIG, VECTORS = "adapter_config.json", "adapter_model.safetensors"

# PEFT's name of a method -> the tensors of its file. A P-tuning file holds what its network has made.
SHARED, COLS, ROWS = "prompt_embeddings", "prefix_task_cols", "prefix_task_rows"
TENSORS = {
    "PROMPT_TUNING": {SHARED},
    "P_TUNING": {SHARED},
    "MULTITASK_PROMPT_TUNING": {SHARED, COLS, ROWS},
}
LAYOUTS: dict[str, Layout] = {"CAUSAL_LM": "decoder", "SEQ_2_SEQ_LM": "encoder-decoder"}

Config = Mapping[str, Any]
Tensors = Mapping[str, np.ndarray]


class Adapter(NamedTuple):
    """What a folder holds.

    Attributes:
        method: PEFT's name of it.
        prompt: the prompts of its T tasks. A plain prompt is P* of one task that adds nothing to it.
        layout: of the backbones that it fits.
        backbone: the name of the one that it was trained on; may be empty.
        left_out: vectors of a decoder's prompt, which are not in ``prompt``.
    """

    method: str
    prompt: MultitaskPrompt
    layout: Layout
    backbone: str
    left_out: int


def write_plain(folder: Path, vectors: Float[np.ndarray, "P D"], backbone: str, layout: Layout) -> None:
    """Writes one prompt as ``PROMPT_TUNING``."""
    _write(folder, "PROMPT_TUNING", {SHARED: vectors}, backbone, layout, {})


def write_multitask(folder: Path, prompt: MultitaskPrompt, backbone: str, layout: Layout) -> None:
    """Writes the factors of all tasks as ``MULTITASK_PROMPT_TUNING``; the tasks must share P*."""
    (shared,), u, v = (np.asarray(part[...]) for part in (prompt.shared, prompt.u, prompt.v))
    more = {"num_tasks": len(u), "num_ranks": u.shape[2]}
    _write(folder, "MULTITASK_PROMPT_TUNING", {SHARED: shared, COLS: u, ROWS: v}, backbone, layout, more)


def _write(folder: Path, method: str, tensors: Tensors, backbone: str, layout: Layout, more: Config) -> None:
    length, width = tensors[SHARED].shape
    config = {
        "base_model_name_or_path": backbone,
        "inference_mode": True,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": length,
        "peft_type": method,
        "prompt_tuning_init": "RANDOM",  # all others want their text or file again when PEFT loads
        "task_type": next(name for name, kind in LAYOUTS.items() if kind == layout),
        "token_dim": width,
        **more,
    }
    write_whole(folder / VECTORS, save(dict(tensors), metadata={"format": "pt"}))
    write_whole(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def read_adapter(folder: Path) -> Adapter:
    """Reads a folder that PEFT or mpt has written.

    Raises:
        UserError: it holds no prompts, or they are damaged.
    """
    config = _config(folder)
    method, layout = config["peft_type"], LAYOUTS[config["task_type"]]
    tensors = _tensors(folder, TENSORS[method], method)
    length, submodules = _checked(folder, config, tensors, layout)
    parts = {name: jnp.asarray(value, jnp.float32) for name, value in tensors.items()}
    shared = parts[SHARED][:length]
    if COLS in parts:
        prompt = MultitaskPrompt(shared[None], parts[COLS][:, :length], parts[ROWS])
    else:
        prompt = MultitaskPrompt.start(shared, tasks=1, rank=1, key=jax.random.key(0))
    backbone = str(config.get("base_model_name_or_path") or "")
    return Adapter(method, prompt, layout, backbone, length * (submodules - 1))


def _config(folder: Path) -> Config:
    file = folder / CONFIG
    if not file.is_file():
        raise UserError(f"{folder}: no {CONFIG}; give a folder that PEFT's save_pretrained has written")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {first_line(error)}; save the adapter again") from None
    if not isinstance(config, dict) or "peft_type" not in config:
        raise UserError(
            f"{file}: no 'peft_type' in it; give a folder that PEFT's save_pretrained has written"
        )
    for key, known in (("peft_type", TENSORS), ("task_type", LAYOUTS)):
        if str(config.get(key)) not in known:
            names = ", ".join(known)
            raise UserError(f"{file}: {key} is {config.get(key)}; mpt imports prompts only: {names}")
    return config


def _tensors(folder: Path, wanted: set[str], method: str) -> Tensors:
    file = folder / VECTORS
    if not file.is_file() and (folder / "adapter_model.bin").is_file():
        raise UserError(
            f"{folder}: adapter_model.bin is a pickle, which can run code and is never read; where you trust "
            f"it, load it with PEFT and save it again: save_pretrained writes {VECTORS}"
        )
    if not file.is_file():
        raise UserError(f"{folder}: no {VECTORS}; save the adapter again")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{file}: not a readable safetensors file ({first_line(error)}); save the adapter again"
        ) from None
    if set(tensors) != wanted:
        name = min(set(tensors) ^ wanted)
        fault = f"'{name}' is missing" if name in wanted else f"'{name}' is no part of a prompt"
        raise UserError(f"{file}: {fault}; {method} has {', '.join(sorted(wanted))}")
    return tensors


def _checked(folder: Path, config: Config, tensors: Tensors, layout: Layout) -> tuple[int, int]:
    """V and S, when all tensors are finite and as long as the config says."""
    most = 2 if layout == "encoder-decoder" else 1

    def number(key: str, default: int | None = None, most: float = np.inf) -> int:
        value = config.get(key) if config.get(key) is not None else default
        if type(value) is not int or not 1 <= value <= most:
            raise UserError(f"{folder / CONFIG}: {key} is {value!r}; save the adapter again")
        return value

    length, submodules = number("num_virtual_tokens"), number("num_transformer_submodules", most, most)
    tasks, rank = number("num_tasks", 1), number("num_ranks", 1)
    width = number("token_dim", tensors[SHARED].shape[-1] if tensors[SHARED].ndim else 0)
    total = length * submodules
    shapes = {SHARED: (total, width), COLS: (tasks, total, rank), ROWS: (tasks, rank, width)}
    for name, value in sorted(tensors.items()):
        if value.shape != shapes[name]:
            fault = f"{name} is {value.shape}, {CONFIG} says {shapes[name]}"
            raise UserError(f"{folder / VECTORS}: {fault}; save the adapter again")
        if not jnp.issubdtype(value.dtype, jnp.floating) or not np.isfinite(value.astype(np.float32)).all():
            raise UserError(f"{folder / VECTORS}: {name} is not all finite numbers; it is damaged")
    return length, submodules
