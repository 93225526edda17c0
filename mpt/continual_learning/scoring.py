"""Scores of prompts on the test rows of all tasks of a sequence: task-aware and task-agnostic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from mpt.continual_learning.learners import Learner
from mpt.continual_learning.task_identity import TaskStatistics, features, plain_text
from mpt.data.records import Record
from mpt.data.task import Example, Task
from mpt.data.text.labelled import Labelled
from mpt.inference.answers import keep_answers
from mpt.inference.evaluate import Answers, answers, grade
from mpt.loading.hf import Pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.system.paths import AnyPath
from mpt.types import Row

Vectors = Float[Array, "P D"]


class Scorer:
    """Scores prompts on test rows; a prompt that has not changed since the last time is not run again.

    Args:
        tests: the test rows of each task.
        max_length: the most tokens of an input.
    """

    def __init__(
        self, pretrained: Pretrained, tasks: Sequence[Task], tests: Sequence[Labelled], max_length: int
    ):
        self._pretrained, self._tasks, self._tests = pretrained, tasks, tests
        self._max_length = max_length
        self._cache: dict[tuple[int, bytes], Answers] = {}

    def figures(self, learner: Learner) -> dict[str, float]:
        """A learner's metric on each task, learned or not, by name."""
        return {
            f"test {task.metric} of {task.name}": self._score(index, learner.prompt(index))
            for index, task in enumerate(self._tasks)
        }

    def _score(self, index: int, vectors: Vectors) -> float:
        task, (examples, _) = self._tasks[index], self._tests[index]
        return grade(task, examples, self._answers(index, vectors).texts)[task.metric]

    def _answers(self, index: int, vectors: Vectors) -> Answers:
        key = index, np.asarray(vectors).tobytes()
        if key not in self._cache:
            self._cache[key] = self._run(vectors, self._tasks[index], self._tests[index].rows)
        return self._cache[key]

    def keep(self, run: AnyPath, learner: Learner, seed: int) -> None:
        """Writes what a learner answers on each task's rows; see ``keep_answers``."""
        for index, (task, (examples, _)) in enumerate(zip(self._tasks, self._tests)):
            keep_answers(run, task, seed, examples, self._answers(index, learner.prompt(index)))

    def inferred_tasks(self, statistics: TaskStatistics) -> list[Int[np.ndarray, " _"]]:
        """For each task, the index of the task that each of its rows is taken for, by its text alone."""
        texts = [[plain_text(example) for example in test.examples] for test in self._tests]
        return [statistics.nearest(features(self._pretrained, each, self._max_length)) for each in texts]

    def task_agnostic(self, learner: Learner, inferred: Sequence[Int[np.ndarray, " _"]]) -> list[float]:
        """A learner's metric on each task, every row read as one of the task that it is taken for.

        A row that lacks a column of that task's template cannot be read so, and counts as wrong.

        Args:
            inferred: see ``inferred_tasks``.
        """
        scores = []
        for task, (examples, _), taken_for in zip(self._tasks, self._tests, inferred):
            texts = [""] * len(examples)
            for other in np.unique(taken_for).tolist():
                indices = np.flatnonzero(taken_for == other).tolist()
                if _can_read(self._tasks[other], examples[0]):
                    answered = self._read_as(other, [examples[i] for i in indices], learner.prompt(other))
                    for i, text in zip(indices, answered.texts):
                        texts[i] = text
            scores.append(grade(task, examples, texts)[task.metric])
        return scores

    def _read_as(self, index: int, examples: Sequence[Example], vectors: Vectors) -> Answers:
        """The answers to examples of any task, read as ones of the task of that index."""
        task = self._tasks[index]
        rows = self._pretrained.encode([_as(task, example) for example in examples], self._max_length)
        return self._run(vectors, task, rows)

    def _run(self, vectors: Vectors, task: Task, rows: Sequence[Row]) -> Answers:
        model = Prompted(self._pretrained.backbone, SoftPrompt(vectors[None]))
        return answers(model, task, rows, self._pretrained.tokenizer)


def _can_read(task: Task, example: Example) -> bool:
    """Whether an example of any task has what another one reads: its columns, or a conversation."""
    if task.reads_conversations:
        return example.is_of_conversation
    return set(task.columns) <= set(example.fields)


def _as(task: Task, example: Example) -> Example:
    """An example in the words of another task; its target, which is not read, is any."""
    if task.reads_conversations:
        return example
    return task.example(Record("", example.fields), next(iter(task.choices), ""))
