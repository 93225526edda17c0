"""The largest class: the same answer to every row."""

from __future__ import annotations

import numpy as np

from mpt.baselines.record import Baseline, Lesson, chosen
from mpt.inference.evaluate import Answers


def answer(lesson: Lesson) -> Answers:
    """The class that is most frequent in the task's whole training split; each class has its share there.

    Drawn rows are as many of each class, and cannot tell; so this reads more labels than a method does.
    """
    shares = lesson.frequencies / lesson.frequencies.sum()
    return chosen(lesson.task, np.tile(shares, (len(lesson.asked.rows), 1)))


LARGEST_CLASS = Baseline(
    "largest class",
    answer,
    "one answer to every row",
    learns=False,
)
