"""What is made of metrics' figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean


def benchmark_average(figures: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over tasks, a task with several metrics counting as their mean.

    So GLUE (Wang et al., 2018) and SuperGLUE (Wang et al., 2019, "Scoring") make one number of their
    tasks. MNLI is one task there, with two figures, its matched and its mismatched accuracy; the
    diagnostic sets do not count.

    Args:
        figures: each task's figures, by the metric's name.

    >>> benchmark_average({"cola": {"matthews": 0.5}, "mrpc": {"f1": 0.9, "accuracy": 0.8}})
    0.675
    """
    return fmean(fmean(of_task.values()) for of_task in figures.values())


def standard_error(share: float, count: int) -> float:
    """The binomial standard error of a share found on ``count`` rows.

    >>> round(standard_error(0.8, 400), 3)
    0.02
    """
    return math.sqrt(share * (1 - share) / count)
