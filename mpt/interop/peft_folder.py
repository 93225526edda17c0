"""Prompts as folders of PEFT: a config in JSON and tensors in safetensors, never a pickle.

Soft prompts have S parts of V vectors each: the second, where S is 2, is for an encoder-decoder's decoder.
PEFT trains it in multitask prompts only, and no ``generate()`` of PEFT uses it, so mpt writes S = 1.

A prefix has V rows of numbers: of each layer the keys of all heads, then their values. In front of an
encoder-decoder's decoder, layer i of L gets what the file has of layer 2i mod L, a quirk of PEFT: such
files are read as PEFT reads them, and not written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from mpt.config.options import BosRule
from mpt.errors import UserError, first_line
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts import MultitaskPrompt
from mpt.rundir.directory import write_atomic
from mpt.types import Layout

CONFIG, VECTORS = "adapter_config.json", "adapter_model.safetensors"
# Of the tensors' metadata, as the config has no place for them: of which weights the prompt is, and whether
# texts begin with the beginning-of-text token after it.
WEIGHTS, BOS = "backbone_sha256", "texts_begin_with_bos"

# PEFT's name of a method -> the tensors of its file. Where a method trains a network (P-tuning, and prefix
# tuning with ``prefix_projection``), the file holds the network's output.
SHARED, COLS, ROWS = "prompt_embeddings", "prefix_task_cols", "prefix_task_rows"
TENSORS = {
    "PROMPT_TUNING": {SHARED},
    "P_TUNING": {SHARED},
    "MULTITASK_PROMPT_TUNING": {SHARED, COLS, ROWS},
    "PREFIX_TUNING": {SHARED},
}
RANDOM = {"prompt_tuning_init": "RANDOM"}  # with others PEFT asks for their text or file when it loads
LAYOUTS: dict[str, Layout] = {"CAUSAL_LM": "decoder", "SEQ_2_SEQ_LM": "encoder-decoder"}

Config = Mapping[str, Any]
Tensors = Mapping[str, np.ndarray]


class Adapter(NamedTuple):
    """The content of a folder.

    Attributes:
        method: PEFT's name of the method.
        prompt: the prompts of its tasks. A plain prompt is P* of one task whose factors change nothing.
        layout: the layout of the backbones that it fits.
        backbone: the name of the backbone that it was trained on; may be empty.
        left_out: number of vectors of a decoder's prompt, which are not in ``prompt``.
        weights: the SHA-256 of that backbone's files; empty where it is not known, as in what PEFT writes.
        bos: whether texts begin with the beginning-of-text token after it; "auto" if that is not known.
    """

    method: str
    prompt: MultitaskPrompt | PrefixPrompt
    layout: Layout
    backbone: str
    left_out: int
    weights: str = ""
    bos: BosRule = "auto"

    @property
    def tasks(self) -> int:
        """The number of tasks that it has prompts for."""
        return len(self.prompt.u[...] if isinstance(self.prompt, MultitaskPrompt) else self.prompt.keys[...])


def write_plain(
    folder: Path,
    vectors: Float[np.ndarray, "P D"],
    backbone: str,
    layout: Layout,
    weights: str = "",
    bos: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Writes one prompt as ``PROMPT_TUNING``.

    Args:
        sizes: the backbone's sizes that PEFT asks for and does not find in its config.
    """
    more = {**RANDOM, **(sizes or {})}
    _write(folder, "PROMPT_TUNING", {SHARED: vectors}, backbone, layout, more, weights, bos)


def write_multitask(
    folder: Path,
    prompt: MultitaskPrompt,
    backbone: str,
    layout: Layout,
    weights: str = "",
    bos: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Writes the factors of all tasks as ``MULTITASK_PROMPT_TUNING``; the tasks must share P*.

    ``sizes`` are those of ``write_plain``.
    """
    (shared,), u, v = (np.asarray(part[...]) for part in (prompt.shared, prompt.u, prompt.v))
    more = {**RANDOM, **(sizes or {}), "num_tasks": len(u), "num_ranks": u.shape[2]}
    tensors = {SHARED: shared, COLS: u, ROWS: v}
    _write(folder, "MULTITASK_PROMPT_TUNING", tensors, backbone, layout, more, weights, bos)


def write_prefix(
    folder: Path,
    keys: Float[np.ndarray, "layers P K H"],
    values: Float[np.ndarray, "layers P K H"],
    backbone: str,
    weights: str = "",
    bos: bool = False,
) -> None:
    """Writes one prefix of a decoder as ``PREFIX_TUNING``."""
    layers, length, heads, width = keys.shape
    rows = np.stack([keys, values], axis=1).transpose(2, 0, 1, 3, 4).reshape(length, -1)
    rows = np.ascontiguousarray(rows)  # safetensors writes an array's memory as it lies
    more = {
        "num_attention_heads": heads,  # those of keys and values
        "num_layers": layers,
        "prefix_projection": False,
        "token_dim": heads * width,
    }
    _write(folder, "PREFIX_TUNING", {SHARED: rows}, backbone, "decoder", more, weights, bos)


def _write(
    folder: Path,
    method: str,
    tensors: Tensors,
    backbone: str,
    layout: Layout,
    more: Config,
    weights: str,
    bos: bool,
) -> None:
    length, width = tensors[SHARED].shape
    config = {
        "base_model_name_or_path": backbone,
        "inference_mode": True,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": length,
        "peft_type": method,
        "task_type": next(name for name, kind in LAYOUTS.items() if kind == layout),
        "token_dim": width,
        **more,
    }
    metadata = {"format": "pt"} | ({WEIGHTS: weights, BOS: str(bos).lower()} if weights else {})
    write_atomic(folder / VECTORS, save(dict(tensors), metadata=metadata))
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def read_adapter(folder: Path) -> Adapter:
    """Reads a folder that PEFT or mpt has written.

    Raises:
        UserError: it holds no prompts, or they are damaged.
    """
    config = _config(folder)
    method, layout = config["peft_type"], LAYOUTS[config["task_type"]]
    tensors, metadata = _tensors(folder, TENSORS[method], method)
    weights, bos = metadata.get(WEIGHTS, ""), _bos_rule(metadata)
    backbone = str(config.get("base_model_name_or_path") or "")
    if method == "PREFIX_TUNING":
        prompt = _prefix(folder, config, tensors[SHARED], layout)
        return Adapter(method, prompt, layout, backbone, 0, weights, bos)
    length, submodules = _checked(folder, config, tensors, layout)
    parts = {name: jnp.asarray(value, jnp.float32) for name, value in tensors.items()}
    shared = parts[SHARED][:length]
    if COLS in parts:
        prompt = MultitaskPrompt(shared[None], parts[COLS][:, :length], parts[ROWS])
    else:
        prompt = MultitaskPrompt.start(shared, tasks=1, rank=1, key=jax.random.key(0))
    return Adapter(method, prompt, layout, backbone, length * (submodules - 1), weights, bos)


def _bos_rule(metadata: Mapping[str, str]) -> BosRule:
    """How texts begin: as mpt wrote it, which at first wrote only the weights, since no text began so."""
    if WEIGHTS not in metadata:
        return "auto"
    return "true" if metadata.get(BOS) == "true" else "false"


def _prefix(folder: Path, config: Config, rows: np.ndarray, layout: Layout) -> PrefixPrompt:
    """The prefix of a folder, when it is finite and as long as the config says."""
    names = ("num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim")
    length, layers, heads, width = (_number(folder, config, name) for name in names)
    if width % heads:
        raise UserError(f"{folder / CONFIG}: token_dim is {width} for {heads} heads; save the adapter again")
    _check_tensor(folder, SHARED, rows, (length, layers * 2 * width))
    parts = rows.astype(np.float32).reshape(length, layers, 2, heads, width // heads)
    keys, values = parts.transpose(2, 1, 0, 3, 4)
    if layout == "encoder-decoder":
        order = 2 * np.arange(layers) % layers
        keys, values = keys[order], values[order]
    return PrefixPrompt(jnp.asarray(keys)[None], jnp.asarray(values)[None])


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


def _tensors(folder: Path, wanted: set[str], method: str) -> tuple[Tensors, Mapping[str, str]]:
    """The tensors of a folder, and the metadata that are written with them."""
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
        with safe_open(file, "numpy") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{file}: not a readable safetensors file ({first_line(error)}); save the adapter again"
        ) from None
    if set(tensors) != wanted:
        name = min(set(tensors) ^ wanted)
        fault = f"'{name}' is missing" if name in wanted else f"'{name}' is no part of a prompt"
        raise UserError(f"{file}: {fault}; {method} has {', '.join(sorted(wanted))}")
    return tensors, metadata


def _checked(folder: Path, config: Config, tensors: Tensors, layout: Layout) -> tuple[int, int]:
    """V and S of soft prompts, when all tensors are finite and as long as the config says."""
    number, stacks = partial(_number, folder, config), 2 if layout == "encoder-decoder" else 1
    length, submodules = number("num_virtual_tokens"), number("num_transformer_submodules", stacks, stacks)
    tasks, rank = number("num_tasks", 1), number("num_ranks", 1)
    width = number("token_dim", tensors[SHARED].shape[-1] if tensors[SHARED].ndim else 0)
    total = length * submodules
    shapes = {SHARED: (total, width), COLS: (tasks, total, rank), ROWS: (tasks, rank, width)}
    for name, value in sorted(tensors.items()):
        _check_tensor(folder, name, value, shapes[name])
    return length, submodules


def _number(
    folder: Path, config: Config, key: str, default: int | None = None, largest: float = np.inf
) -> int:
    """A whole number of the config from 1 to ``largest``; ``default`` where it has none."""
    value = config.get(key) if config.get(key) is not None else default
    if type(value) is not int or not 1 <= value <= largest:
        raise UserError(f"{folder / CONFIG}: {key} is {value!r}; save the adapter again")
    return value


def _check_tensor(folder: Path, name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises an error unless a tensor has that shape and is finite."""
    if value.shape != shape:
        fault = f"{name} is {value.shape}, {CONFIG} says {shape}"
        raise UserError(f"{folder / VECTORS}: {fault}; save the adapter again")
    if not jnp.issubdtype(value.dtype, jnp.floating) or not np.isfinite(value.astype(np.float32)).all():
        raise UserError(f"{folder / VECTORS}: {name} has values that are not finite; it is damaged")
