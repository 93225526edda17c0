"""The largest class: the same answer to every row."""

from __future__ import annotations

import numpy as np

from mpt.baselines.record import Baseline, Problem, chosen
from mpt.inference.evaluate import Answers


def answer(problem: Problem) -> Answers:
    """The class that is most frequent in the task's whole training split; each class has its share there.

    Drawn rows are as many of each class, and cannot tell; so this reads more labels than a method does.
    """
    shares = problem.frequencies / problem.frequencies.sum()
    return chosen(problem.task, np.tile(shares, (len(problem.asked.rows), 1)))


LARGEST_CLASS = Baseline(
    "largest class",
    answer,
    "one answer to every row",
    learns=False,
)
