"""A card: what a saved prompt is, how its tasks' records read, and which model it fits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from mpt.cards.model_card import metadata
from mpt.config.options import BosRule
from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.loading.known import known_as

BOS_NOTE = "Every text begins with the beginning-of-text token, once, after the prompt.\n\n"
OPENING_NOTE = "The prompt stands inside the first user turn, after the template's {!r}.\n\n"


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
    def read(cls, content: bytes) -> Card:
        """The card that a file holds.

        Raises:
            ValueError, TypeError: it holds no card.
        """
        card = cls(**json.loads(content))
        if not card.opening:
            return card
        from mpt.data.text.opening import Opening  # which loads transformers

        return replace(card, opening=Opening.of(**card.opening))

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
