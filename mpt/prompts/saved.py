"""Prompts on disk: the vectors as safetensors, and a card that says what they are and fit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from transformers import PreTrainedTokenizerBase

import mpt
from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.models.hf import Pretrained
from mpt.prompts.multitask import MultitaskPrompt
from mpt.prompts.soft import PromptParam, SoftPrompt
from mpt.rundir import write_whole

KINDS = {"soft": SoftPrompt, "multitask": MultitaskPrompt}
TEMPLATE_PARTS = ("template", "verbalizer", "label", "metric", "instruction", "scoring")
SOFTWARE = ("jax", "flax", "optax", "transformers")


@dataclass(frozen=True)
class Card:
    """What a saved prompt is.

    Attributes:
        kind: a key of ``KINDS``.
        method: how it was trained, in a few words.
        prompts: the task of each of the J prompts.
        templates: task -> how its records read; enough to predict without the task's file.
        rows: task -> training rows.
        backbone: the backbone's name; ``backbone_hash`` is the SHA-256 of its weight files.
        tokenizer_hash: SHA-256 of the tokenizer's vocabulary and rules.
        max_length: most tokens of an input.
        seeds: the seeds of the run.
        metrics: figures found on held-out rows.
        software: package -> version.
    """

    kind: str
    method: str
    prompts: list[str]
    templates: dict[str, dict[str, Any]]
    rows: dict[str, int]
    backbone: str
    backbone_hash: str
    tokenizer_hash: str
    max_length: int
    seeds: list[int]
    metrics: dict[str, float]
    software: dict[str, str]

    @classmethod
    def describe(
        cls, prompt: nnx.Module, pretrained: Pretrained, tasks: Sequence[Task], **facts: Any
    ) -> Card:
        """The card of ``prompt`` on ``pretrained``; ``facts`` are the other attributes."""
        kind = next(name for name, module in KINDS.items() if isinstance(prompt, module))
        templates = {task.name: {name: getattr(task, name) for name in TEMPLATE_PARTS} for task in tasks}
        return cls(
            kind=kind,
            templates=templates,
            backbone=pretrained.name,
            backbone_hash=pretrained.hash,
            tokenizer_hash=tokenizer_hash(pretrained.tokenizer),
            software={"mpt": mpt.__version__} | {name: importlib.metadata.version(name) for name in SOFTWARE},
            **facts,
        )

    def task(self, name: str) -> Task:
        """One of the prompt's tasks, without its data."""
        return Task(name, Files({}), **self.templates[name])

    def markdown(self) -> str:
        rows = "\n".join(f"| {task} | {count:,} |" for task, count in self.rows.items())
        figures = "\n".join(f"- {name}: {value:.4f}" for name, value in self.metrics.items())
        return (
            f"# {self.method}\n\n"
            f"Prompts: {', '.join(self.prompts)}\n\n"
            f"Backbone: {self.backbone} (weights {self.backbone_hash[:16]}, "
            f"tokenizer {self.tokenizer_hash[:16]}). Seeds: {self.seeds}.\n\n"
            f"| task | training rows |\n|---|---|\n{rows}\n\n{figures}\n\n"
            f"Made with {', '.join(f'{name} {version}' for name, version in self.software.items())}.\n"
        )


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what the tokenizer makes of text: its vocabulary, rules and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def save_prompt(run: Path, name: str, prompt: nnx.Module, card: Card) -> None:
    """Writes ``prompts/NAME.safetensors``, ``.json`` and ``.md``; the vectors come last."""
    _, state = nnx.split(prompt, PromptParam)
    tensors = {str(path[-1]): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}
    folder = run / "prompts"
    write_whole(folder / f"{name}.json", json.dumps(asdict(card), indent=2) + "\n")
    write_whole(folder / f"{name}.md", card.markdown())
    write_whole(folder / f"{name}.safetensors", save(tensors))


def has_prompt(run: Path, name: str) -> bool:
    return (run / "prompts" / f"{name}.safetensors").is_file()


def load_prompt(
    run: Path, name: str, pretrained: Pretrained | None = None
) -> tuple[SoftPrompt | MultitaskPrompt, Card]:
    """Reads a saved prompt; with ``pretrained``, checks that it fits that backbone and tokenizer.

    Raises:
        UserError: there is none, it is damaged, or it was trained on another backbone.
    """
    file = run / "prompts" / f"{name}.safetensors"
    if not file.is_file():
        known = sorted(path.stem for path in (run / "prompts").glob("*.safetensors"))
        hint = f"it has {', '.join(known)}" if known else "let its run finish first"
        raise UserError(f"{run}: no prompt '{name}' in it; {hint}")
    try:
        tensors: Mapping[str, np.ndarray] = load_file(file)
        card = Card(**json.loads(file.with_suffix(".json").read_text()))
        prompt = KINDS[card.kind](**{name: jnp.asarray(value) for name, value in tensors.items()})
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: not a whole prompt of mpt ({error}); train it again") from None
    if pretrained and card.backbone_hash != pretrained.hash:
        raise UserError(
            f"{file}: trained on {card.backbone} (weights {card.backbone_hash[:12]}), "
            f"not on {pretrained.name} ({pretrained.hash[:12]}); use that backbone"
        )
    if pretrained and card.tokenizer_hash != tokenizer_hash(pretrained.tokenizer):
        raise UserError(
            f"{file}: trained with another tokenizer than that of {pretrained.name}; use that one"
        )
    return prompt, card
