"""Prompts on disk: the vectors as safetensors, and a card that says what they are and fit."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save

from mpt.cards.bank import Bank
from mpt.cards.card import Card
from mpt.cards.files import damaged, read_files
from mpt.data.hub import Hub
from mpt.data.task import CHAT_PARTS, Task
from mpt.data.tokenise import tokenizer_hash
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.prompts.multitask import MultitaskPrompt
from mpt.prompts.prefix import Prompt
from mpt.prompts.soft import SoftPrompt
from mpt.rundir.directory import write_atomic
from mpt.rundir.found import VECTORS, find_prompt
from mpt.system.paths import AnyPath
from mpt.version import __version__

# What a saved prompt can be: the kind that its card names -> the module that its tensors make.
KINDS: dict[str, type[nnx.Module]] = {"soft": SoftPrompt, "multitask": MultitaskPrompt}
Module = TypeVar("Module", bound=type[nnx.Module])
TEMPLATE_PARTS = ("template", "verbalizer", "label", "metrics", "instruction", "scoring", "group")
TEXT_PARTS = ("max_new_tokens",)  # only for free text; older cards have none
SOFTWARE = ("jax", "flax", "optax", "transformers")


def saved_as(kind: str) -> Callable[[Module], Module]:
    """Has prompts of a class saved, and read back, as a kind of their own.

    Its tensors are saved by the names of its parameters, which its constructor takes.
    """

    def register(module: Module) -> Module:
        KINDS[kind] = module
        return module

    return register


def describe(
    prompt: nnx.Module,
    pretrained: Pretrained,
    tasks: Sequence[Task],
    *,
    metrics: Mapping[str, float],
    **facts: Any,
) -> Card:
    """The card of ``prompt`` on ``pretrained``, without ``metrics`` that are undefined; ``facts`` are the
    other attributes."""
    kind = next(name for name, module in KINDS.items() if isinstance(prompt, module))
    templates = {task.name: _wording(task) for task in tasks}
    return Card(
        kind=kind,
        templates=templates,
        backbone=pretrained.name,
        backbone_hash=pretrained.hash,
        tokenizer_hash=tokenizer_hash(pretrained.tokenizer),
        software=software(),
        layer=prompt.layer if isinstance(prompt, Prompt) else 0,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        datasets={task.name: task.source.name for task in tasks if isinstance(task.source, Hub)},
        bos=pretrained.bos is not None,
        opening=pretrained.opening,
        **facts,
    )


def misfit(card: Card, pretrained: Pretrained) -> str:
    """Why a prompt cannot be read by ``pretrained``; empty where it can."""
    if card.backbone_hash != pretrained.hash:
        return (
            f"trained on {card.backbone} (weights {card.backbone_hash[:12]}), "
            f"not on {pretrained.name} ({pretrained.hash[:12]}); use that backbone"
        )
    if card.tokenizer_hash != tokenizer_hash(pretrained.tokenizer):
        return f"trained with another tokenizer than that of {pretrained.name}; use that one"
    return ""


def _wording(task: Task) -> dict[str, Any]:
    """How a task's records read, as plain values; older cards have fewer of them."""
    parts = (*TEMPLATE_PARTS, *(CHAT_PARTS if task.chat else ()), *(() if task.choices else TEXT_PARTS))
    return {name: getattr(task, name) for name in parts}


def software() -> dict[str, str]:
    """Package -> version, of what decides on a result."""
    return {"mpt": __version__} | {name: importlib.metadata.version(name) for name in SOFTWARE}


def save_prompt(run: AnyPath, name: str, prompt: nnx.Module, card: Card) -> None:
    """Writes ``prompts/NAME.safetensors``, ``.json`` and ``.md``; the vectors come last."""
    for ending, content in files_of(prompt, card).items():
        write_atomic(run / "prompts" / f"{name}{ending}", content)


def files_of(prompt: nnx.Module, card: Card) -> dict[str, bytes]:
    """A prompt's files by their endings, in the order to write them: a prompt is there once its last is."""
    leaves = nnx.to_flat_state(nnx.state(prompt))
    return {
        ".json": (json.dumps(asdict(card), indent=2) + "\n").encode(),
        ".md": card.model_card().encode(),
        VECTORS: save({str(path[-1]): np.asarray(leaf[...]) for path, leaf in leaves}),
    }


def has_prompt(run: AnyPath, name: str) -> bool:
    return (run / "prompts" / f"{name}{VECTORS}").is_file()


def load_prompt(run: AnyPath, name: str, pretrained: Pretrained | None = None) -> tuple[nnx.Module, Card]:
    """Reads a saved prompt; with ``pretrained``, checks that it fits that backbone and tokenizer.

    Raises:
        UserError: there is none, it is damaged, or it was trained on another backbone.
    """
    file = find_prompt(run, name)
    tensors, card = read_files(str(file), file.read_bytes, file.with_suffix(".json").read_bytes)
    prompt = _module(str(file), tensors, card)
    if pretrained and (fault := misfit(card, pretrained)):
        raise UserError(f"{file}: {fault}")
    return prompt, card


def read_from(bank: Bank, name: str) -> tuple[nnx.Module, Card]:
    """A prompt of a bank.

    Raises:
        UserError: there is none of that name, or it is damaged.
    """
    tensors, card = bank.read(name)
    return _module(f"{bank.path}/{name}", tensors, card), card


def _module(where: str, tensors: Mapping[str, np.ndarray], card: Card) -> nnx.Module:
    layer = {"layer": card.layer} if card.layer else {}
    try:
        return KINDS[card.kind](**{name: jnp.asarray(value) for name, value in tensors.items()}, **layer)
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(where, error) from None
