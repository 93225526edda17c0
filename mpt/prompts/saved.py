"""Prompts on disk: the vectors as safetensors, and a card that says what they are and fit."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mpt.config.options import BosRule
from mpt.data.hub import Hub
from mpt.data.sources import Files
from mpt.data.task import CHAT_PARTS, Task
from mpt.data.text.opening import Opening
from mpt.data.tokenise import tokenizer_hash
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.loading.known import known_as
from mpt.prompts.model_card import metadata
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
BOS_NOTE = "Every text begins with the beginning-of-text token, once, after the prompt.\n\n"
OPENING_NOTE = "The prompt stands inside the first user turn, after the template's {!r}.\n\n"
SOFTWARE = ("jax", "flax", "optax", "transformers")


def saved_as(kind: str) -> Callable[[Module], Module]:
    """Has prompts of a class saved, and read back, as a kind of their own.

    Its tensors are saved by the names of its parameters, which its constructor takes.
    """

    def register(module: Module) -> Module:
        KINDS[kind] = module
        return module

    return register


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
        layer: the layer before which the prompts enter; older cards do not have it.
        datasets: task -> the Hugging Face hub's data set that it comes from, where it does; older cards do
            not have it.
        bos: whether the texts after the prompts begin with the beginning-of-text token; older cards do not
            have it, and their texts did not.
        opening: what stands in front of prompts inside a user's turn; None where they stand in front.
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
    layer: int = 0
    datasets: dict[str, str] = field(default_factory=dict)
    bos: bool = False
    opening: Any = None

    @classmethod
    def describe(
        cls,
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
        return cls(
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

    def task(self, name: str) -> Task:
        """One of the prompt's tasks, without its data."""
        parts: dict[str, Any] = {**self.templates[name], "metrics": tuple(self.templates[name]["metrics"])}
        return Task(name, Files({}), **parts)

    def alone(self, task: str) -> Card:
        """The card of one task's prompt; a card of several has each task's name in front of its figures."""
        metrics = self.metrics
        if len(self.templates) > 1:
            mine = [name for name in metrics if name.startswith(f"{task} ")]
            metrics = {name.removeprefix(f"{task} "): metrics[name] for name in mine}
        return replace(
            self,
            prompts=[task],
            templates={task: self.templates[task]},
            rows={name: count for name, count in self.rows.items() if name == task},
            datasets={name: source for name, source in self.datasets.items() if name == task},
            metrics=metrics,
        )

    def misfit(self, pretrained: Pretrained) -> str:
        """Why the prompt cannot be read by ``pretrained``; empty where it can."""
        if self.backbone_hash != pretrained.hash:
            return (
                f"trained on {self.backbone} (weights {self.backbone_hash[:12]}), "
                f"not on {pretrained.name} ({pretrained.hash[:12]}); use that backbone"
            )
        if self.tokenizer_hash != tokenizer_hash(pretrained.tokenizer):
            return f"trained with another tokenizer than that of {pretrained.name}; use that one"
        return ""

    @property
    def bos_rule(self) -> BosRule:
        """How texts after the prompts begin; see ``mpt.data.tokenise.first_token``."""
        return "true" if self.bos else "false"

    @property
    def title(self) -> str:
        """How the prompts were made, without the folders that lead to the run they started from."""
        method, from_, origin = self.method.partition("started from ")
        return f"{method}{from_}{'/'.join(PurePosixPath(origin).parts[-2:])}"

    def model_card(self, library: str = "mpt") -> str:
        """The card as the Hugging Face hub reads it, of a prompt that ``library`` loads."""
        return f"{self.metadata(library)}\n{self.markdown()}"

    def metadata(self, library: str) -> str:
        """What the hub reads in front of a text about the prompts, if ``library`` loads them."""
        backbone = known_as(self.backbone)
        return metadata(self.title, backbone, self.templates, self.datasets, self.metrics, library)

    def markdown(self) -> str:
        """The card as a text, without a path of this machine."""
        rows = "\n".join(f"| {task} | {count:,} |" for task, count in self.rows.items())
        figures = "\n".join(f"- {name}: {value:.4f}" for name, value in self.metrics.items())
        return (
            f"# {self.title}\n\n"
            f"Prompts: {', '.join(self.prompts)}\n\n"
            f"Backbone: {known_as(self.backbone)} (weights {self.backbone_hash[:16]}, "
            f"tokenizer {self.tokenizer_hash[:16]}). Seeds: {self.seeds}.\n\n"
            f"{OPENING_NOTE.format(self.opening.text) if self.opening else BOS_NOTE if self.bos else ''}"
            f"| task | training rows |\n|---|---|\n{rows}\n\n{figures}\n\n"
            f"Made with {', '.join(f'{name} {version}' for name, version in self.software.items())}.\n"
        )


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
    prompt, card = read_files(str(file), file.read_bytes, file.with_suffix(".json").read_bytes)
    if pretrained and (fault := card.misfit(pretrained)):
        raise UserError(f"{file}: {fault}")
    return prompt, card


def read_files(
    where: str, vectors: Callable[[], bytes], card: Callable[[], bytes]
) -> tuple[nnx.Module, Card]:
    """A prompt and its card from what its two files hold.

    Raises:
        UserError: they do not hold a whole prompt; ``where`` is its name.
    """
    try:
        tensors: Mapping[str, np.ndarray] = load(vectors())
        if not all(np.isfinite(value).all() for value in tensors.values()):
            raise ValueError("it holds values that are not finite numbers")
        read = Card(**json.loads(card()))
        if read.opening:
            read = replace(read, opening=Opening.of(**read.opening))
        layer = {"layer": read.layer} if read.layer else {}
        arrays = {name: jnp.asarray(value) for name, value in tensors.items()}
        return KINDS[read.kind](**arrays, **layer), read
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where}: not a whole prompt of mpt ({error}); train it again") from None
