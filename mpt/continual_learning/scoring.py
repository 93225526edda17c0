"""What prompts score on the test rows of all tasks of a sequence, with the task told or guessed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from mpt.adaptation.draws import HeldOut
from mpt.continual_learning.learners import Learner
from mpt.continual_learning.task_identity import Keys, features, plain_text
from mpt.data.task import Example, Task
from mpt.data.tokenise import encode
from mpt.inference.answers import keep_answers
from mpt.inference.evaluate import Answers, answers, grade
from mpt.loading.hf import Pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.system.paths import AnyPath
from mpt.types import Row

Vectors = Float[Array, "P D"]


class Exam:
    """The test rows of tasks; a prompt that has not changed is not asked again."""

    def __init__(
        self, pretrained: Pretrained, tasks: Sequence[Task], tests: Sequence[HeldOut], max_length: int
    ):
        self._pretrained, self._tasks, self._tests, self._most = pretrained, tasks, tests, max_length
        self._known: dict[tuple[int, bytes], Answers] = {}

    def figures(self, learner: Learner) -> dict[str, float]:
        """A learner's metric on each task, learned or not, by name."""
        return {
            f"test {task.metric} of {task.name}": self._score(place, learner.prompt(place))
            for place, task in enumerate(self._tasks)
        }

    def _score(self, place: int, vectors: Vectors) -> float:
        task, (examples, _) = self._tasks[place], self._tests[place]
        return grade(task, examples, self._answers(place, vectors).texts)[task.metric]

    def _answers(self, place: int, vectors: Vectors) -> Answers:
        asked = place, np.asarray(vectors).tobytes()
        if asked not in self._known:
            self._known[asked] = self._said(vectors, self._tasks[place], self._tests[place].rows)
        return self._known[asked]

    def keep(self, run: AnyPath, learner: Learner, seed: int) -> None:
        """Writes what a learner answers on each task's rows; see ``keep_answers``."""
        for place, (task, (examples, _)) in enumerate(zip(self._tasks, self._tests)):
            keep_answers(run, task, seed, examples, self._answers(place, learner.prompt(place)))

    def guesses(self, keys: Keys) -> list[Int[np.ndarray, " _"]]:
        """The task that each task's rows are taken for, by their text alone."""
        texts = [[plain_text(example) for example in test.examples] for test in self._tests]
        return [keys.nearest(features(self._pretrained, found, self._most)) for found in texts]

    def scores_of_guesses(self, learner: Learner, guesses: Sequence[Int[np.ndarray, " _"]]) -> list[float]:
        """A learner's metric on each task, every row read as one of the task that it is taken for.

        A row that lacks a column of that task's template cannot be read so, and counts as wrong.
        """
        found = []
        for task, (examples, _), guessed in zip(self._tasks, self._tests, guesses):
            said = [""] * len(examples)
            for place in np.unique(guessed).tolist():
                taken, places = self._tasks[place], np.flatnonzero(guessed == place).tolist()
                if set(taken.columns) <= set(examples[0].fields):
                    read = [_as(taken, examples[i]) for i in places]
                    layout = self._pretrained.backbone.layout
                    rows = encode(read, self._pretrained.tokenizer, self._most, layout)
                    for i, text in zip(places, self._said(learner.prompt(place), taken, rows).texts):
                        said[i] = text
            found.append(grade(task, examples, said)[task.metric])
        return found

    def _said(self, vectors: Vectors, task: Task, rows: Sequence[Row]) -> Answers:
        model = Prompted(self._pretrained.backbone, SoftPrompt(vectors[None]))
        return answers(model, task, rows, self._pretrained.tokenizer)


def _as(task: Task, example: Example) -> Example:
    """An example in the words of a task; its target, which is not read, is any."""
    fields = {column: example.fields[column] for column in task.columns}
    return Example(task.template, fields, next(iter(task.choices), ""), task.choices)
