"""Four ways to learn tasks one after another: what each task's training starts from, and what is kept.

A learner is an immutable value. Training happens elsewhere, and is the same for all:

    lesson = learner.lesson(index)             # a prompt to train on the task of that index
    learner = learner.learned(trained)         # the learner that knows this task too
    learner.prompt(index)                      # for any task: as it was learned, or as it would start
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import jax.numpy as jnp
from flax.nnx.filterlib import Filter
from jaxtyping import Array, Float

from mpt.prompts import MultitaskPrompt, PlainPrompt, ProgressivePrompt, PromptParam, SoftPrompt
from mpt.prompts.multitask import FACTORS


class Lesson(NamedTuple):
    """What a task's training starts from.

    Attributes:
        prompt: its prompt 0 is the task's.
        trainable: what is trained of it, an NNX filter.
        teachers: what its prompts 1, 2, ... are to stay like; None if there is nothing to keep so.
    """

    prompt: PlainPrompt
    trainable: Filter = PromptParam
    teachers: Float[Array, "K P D"] | None = None


class Learner(ABC):
    """Immutable learner state after the tasks so far."""

    @property
    @abstractmethod
    def known(self) -> Sequence[Float[Array, "P D"]]:
        """The current prompt of each learned task."""

    @abstractmethod
    def lesson(self, index: int) -> Lesson:
        """The start of a task that is not learned yet; ``index`` is its position in the sequence."""

    @abstractmethod
    def learned(self, trained: PlainPrompt) -> Learner:
        """The state after the next task, whose lesson's prompt was trained to ``trained``."""

    @final
    def prompt(self, index: int) -> Float[Array, "P D"]:
        """The prompt of a task; of one that is not learned yet, the start of its lesson."""
        known = self.known
        return known[index] if index < len(known) else self.lesson(index).prompt.compose()[0]


@dataclass(frozen=True)
class FactorLearner(Learner):
    """A component per task, u and v; the shared prompt is frozen, so nothing learned ever changes.

    A task starts from the mean of all components so far (Wang et al. 2023, section 3.3).

    Attributes:
        universal: the shared prompt, and the source tasks' components.
        tasks: each learned task's component, with the same shared prompt.
    """

    universal: MultitaskPrompt
    tasks: tuple[MultitaskPrompt, ...] = ()

    @property
    def known(self) -> list[Float[Array, "P D"]]:
        return [task.compose()[0] for task in self.tasks]

    def lesson(self, index: int) -> Lesson:
        every = with_components(self.universal.shared[...], self.universal, *self.tasks)
        return Lesson(every.for_targets(1), FACTORS)

    def learned(self, trained: PlainPrompt) -> FactorLearner:
        assert isinstance(trained, MultitaskPrompt)
        return replace(self, tasks=(*self.tasks, trained))


@dataclass(frozen=True)
class SharedLearner(Learner):
    """The same, but the shared prompt is trained further, and earlier tasks' prompts are distilled.

    A teacher is a task's prompt as it was when it had just been learned. Earlier components train too,
    so that they can make up for what moves in the shared prompt.

    Attributes:
        universal: the current shared prompt, and the source tasks' components.
        tasks: the learned tasks' components, in order; None before the first.
        teachers: the learned tasks' prompts, as they were then.
    """

    universal: MultitaskPrompt
    tasks: MultitaskPrompt | None = None
    teachers: tuple[Float[Array, "P D"], ...] = ()

    @property
    def known(self) -> list[Float[Array, "P D"]]:
        return [] if self.tasks is None else list(self.tasks.compose())

    def lesson(self, index: int) -> Lesson:
        start = with_components(self.universal.shared[...], self.universal, *self._earlier).for_targets(1)
        lesson = with_components(start.shared[...], start, *self._earlier)
        return Lesson(lesson, teachers=jnp.stack(self.teachers) if self.teachers else None)

    def learned(self, trained: PlainPrompt) -> SharedLearner:
        assert isinstance(trained, MultitaskPrompt)
        shared, u, v = (part[...] for part in (trained.shared, trained.u, trained.v))
        last = jnp.roll(jnp.arange(len(u)), -1)  # the new task's stood in front
        return SharedLearner(
            with_components(shared, self.universal),
            MultitaskPrompt(shared, u[last], v[last]),
            (*self.teachers, trained.compose()[0]),
        )

    @property
    def _earlier(self) -> list[MultitaskPrompt]:
        return [] if self.tasks is None else [self.tasks]


@dataclass(frozen=True)
class ProgressiveLearner(Learner):
    """Progressive Prompts: new vectors per task, in front of all earlier ones, which are frozen.

    Attributes:
        starts: what the new vectors of each task start from.
        tasks: each learned task's whole prompt.
    """

    starts: Float[Array, "J P D"]
    tasks: tuple[Float[Array, "_ D"], ...] = ()

    @property
    def known(self) -> list[Float[Array, "_ D"]]:
        return list(self.tasks)

    def lesson(self, index: int) -> Lesson:
        earlier = self.tasks[-1] if self.tasks else self.starts[0, :0]
        return Lesson(ProgressivePrompt(self.starts[index][None], earlier))

    def learned(self, trained: PlainPrompt) -> ProgressiveLearner:
        return replace(self, tasks=(*self.tasks, trained.compose()[0]))


@dataclass(frozen=True)
class NaiveLearner(Learner):
    """One prompt for all tasks, tuned on one after the other: what is lost when nothing is kept.

    Attributes:
        vectors: the current prompt.
        count: how many tasks it has been tuned on.
    """

    vectors: Float[Array, "P D"]
    count: int = 0

    @property
    def known(self) -> list[Float[Array, "P D"]]:
        return [self.vectors] * self.count

    def lesson(self, index: int) -> Lesson:
        return Lesson(SoftPrompt(self.vectors[None]))

    def learned(self, trained: PlainPrompt) -> NaiveLearner:
        return NaiveLearner(trained.compose()[0], self.count + 1)


def with_components(shared: Float[Array, "1 P D"], *prompts: MultitaskPrompt) -> MultitaskPrompt:
    """The components of several prompts with one shared prompt."""
    u, v = (jnp.concatenate(parts) for parts in zip(*((p.u[...], p.v[...]) for p in prompts)))
    return MultitaskPrompt(shared, u, v)
