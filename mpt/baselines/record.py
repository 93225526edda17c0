"""The record of a baseline, and what it learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mpt.baselines.states import States
from mpt.config.adapt import BaselineName, answers
from mpt.data.task import Task
from mpt.data.text.labelled import Labelled
from mpt.inference.evaluate import Answers


class Problem(NamedTuple):
    """What a baseline learns from, and what it is asked.

    Attributes:
        frequencies: the number of rows of each class in the task's whole training split.
        train: the drawn training rows.
        asked: the rows to answer; their labels are not read.
        states: the frozen model's hidden states of rows, without a prompt.
    """

    task: Task
    frequencies: Int[np.ndarray, " C"]
    train: Labelled
    asked: Labelled
    states: States


@dataclass(frozen=True)
class Baseline:
    """Something simple that solves a task without a prompt.

    Attributes:
        name: its name as an option, and in tables.
        answer: its answers to the rows that a problem asks.
        merit: what it does without, or how, in a few words that follow its name in brackets.
        learns: it learns from the drawn rows; else its answers are the same for all draws.
    """

    name: BaselineName
    answer: Callable[[Problem], Answers]
    merit: str
    learns: bool = True

    def applies(self, task: Task) -> bool:
        """Whether it can answer a task's rows."""
        return answers(self.name, bool(task.choices))


def chosen(task: Task, probabilities: Float[np.ndarray, "R C"]) -> Answers:
    """The likeliest class word of each row; columns are in the order of the task's class words."""
    return Answers([task.choices[i] for i in probabilities.argmax(axis=1)], probabilities)


def fitted_answers(classifier: Any, known: Any, asked: Any, problem: Problem) -> Answers:
    """The answers of a scikit-learn classifier that is fitted to the drawn rows.

    A class without a row among them gets probability 0; if all are of one class, that is the answer.

    Args:
        known: the features of the drawn rows, and ``asked`` those of the rows to answer.
    """
    classes = problem.train.classes
    probabilities = np.zeros((len(problem.asked.rows), len(problem.task.choices)))
    seen = np.unique(classes)
    if len(seen) == 1:
        probabilities[:, seen] = 1.0
    else:
        probabilities[:, seen] = classifier.fit(known, classes).predict_proba(asked)
    return chosen(problem.task, probabilities)
