"""What an adaptation starts from, and the starts that several methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mpt.config.options import PromptConfig, TrainConfig
from mpt.data.task import Task
from mpt.errors import UserError, warn
from mpt.loading.hf import Pretrained
from mpt.prompts import MultitaskPrompt, PlainPrompt, SoftPrompt
from mpt.prompts.initial import starting_vectors
from mpt.prompts.source import Source, Startable, for_tasks
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.training.stage import Lengths, Train
from mpt.types import Row


@dataclass(frozen=True)
class Setting:
    """What an adaptation starts from. Its prompts are those of (task, seed) pairs, trained side by side.

    Attributes:
        method: the name of the method.
        options: the method's own options.
        pretrained: the frozen backbone.
        tasks: the task of each prompt.
        seeds: the seed of each prompt, which drew its rows.
        rows: the training rows of each prompt; if nothing will be trained, their lengths are enough.
        vectors: shape and initial values of prompts that start from scratch.
        train: the training stage.
        max_length: the most tokens of an input.
        source: the prompts to start from; None starts from scratch.
        instruction: number of vectors of the task's instruction after a prompt from scratch.
        joint: the prompts of one seed share the shared part of a universal prompt.
        freeze_shared: the shared part of a universal prompt is not trained.
        train_stage: trains a stage that must come before the method's own training.
    """

    method: str
    options: Any
    pretrained: Pretrained
    tasks: Sequence[Task]
    seeds: Sequence[int]
    rows: Sequence[Sequence[Row] | Lengths]
    vectors: PromptConfig
    train: TrainConfig
    max_length: int
    train_stage: Train
    source: Source | None = None
    instruction: int = 0
    joint: bool = False
    freeze_shared: bool = False

    @property
    def key(self) -> Array:
        """The key of random initial values."""
        return jax.random.key(self.seeds[0])

    @property
    def origin(self) -> str:
        """Where the prompts start, in a few words."""
        return self.source.name if self.source else self.vectors.start

    @property
    def layer(self) -> int:
        """The layer before which the prompts are inserted: the source's, if they start from one."""
        return self.source.prompt()[0].layer if self.source else self.vectors.layer

    @property
    def every_layer(self) -> bool:
        """Whether the prompts start as keys and values in every layer."""
        if self.source:
            return isinstance(self.source.prompt()[0], UniversalPrefix)
        return self.vectors.every_layer

    def starting_vectors(self, length: int = 0) -> Float[Array, "J P D"]:
        """The vectors that each prompt starts from: those of the source, else new ones.

        Args:
            length: the number of new vectors, where it is not the config's.
        """
        return self._vectors_of_source() if self.source else self.new_vectors(length)

    def new_vectors(self, length: int = 0) -> Float[Array, "J P D"]:
        """Vectors from scratch, even if there is a source."""
        vectors = replace(self.vectors, length=length or self.vectors.length)
        return starting_vectors(vectors, self.tasks, self.seeds, self.pretrained)

    def _vectors_of_source(self) -> Float[Array, "J P D"]:
        start = self.start_of_source()
        assert isinstance(start, PlainPrompt)
        return start.compose()

    def start_of_source(self) -> Startable:
        """The source's prompt in the form from which targets start.

        Raises:
            UserError: it is damaged, of another backbone, or holds several plain prompts.
        """
        assert self.source is not None
        prompt, sources = self.source.prompt()
        warn_of_sources(self.tasks, sources)
        if isinstance(prompt, MultitaskPrompt | UniversalPrefix):
            return for_tasks(prompt, self.tasks, self.pretrained, together=self.joint)
        if len(prompt.compose()) > 1:
            raise UserError(f"{self.source.name}: it holds {len(sources)} prompts; name one of a bank")
        return SoftPrompt(jnp.repeat(prompt.compose(), len(self.seeds), axis=0), prompt.layer)

    def teachers(self) -> tuple[Float[Array, "K P D"], list[str]]:
        """The source tasks' own prompts, and the names of those tasks.

        Raises:
            UserError: no run with such prompts is given.
        """
        teachers = self.source.teachers() if self.source else None
        if teachers is None:
            raise UserError(
                f"method {self.method} needs source prompts; give --prompt with a run of `mpt pretrain`"
            )
        warn_of_sources(self.tasks, teachers[1])
        return teachers

    def frozen_prompt(self) -> SoftPrompt:
        """The frozen prompt before texts whose backbone is trained: the instruction, if any."""
        (task,) = self.tasks
        if self.source:
            return SoftPrompt(self._vectors_of_source())
        if not task.instruction:
            return SoftPrompt(jnp.zeros((1, 0, self.pretrained.backbone.embedding.shape[-1])))
        words = replace(self.vectors, start="instruction", length=0)
        return SoftPrompt(starting_vectors(words, [task], self.seeds, self.pretrained))


def no_shared_part(option: str) -> UserError:
    """The error for an option about the shared part of a universal prompt, if there is none."""
    return UserError(f"{option}: only a universal prompt has a shared part; name one with --prompt")


def warn_of_sources(tasks: Sequence[Task], sources: Sequence[str]) -> None:
    """Warns of tasks that the prompt was already trained on."""
    for name in {task.name: True for task in tasks if task.name in sources}:
        warn(f"'{name}' is one of the source tasks: its figures do not show how prompts transfer")
