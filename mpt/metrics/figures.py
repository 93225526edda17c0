"""Averages and standard errors of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean


def benchmark_average(figures: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over tasks, where a task with several metrics counts as their mean.

    GLUE (Wang et al., 2018) and SuperGLUE (Wang et al., 2019, "Scoring") are averaged in this way. In GLUE,
    MNLI is one task with two metrics, its matched and its mismatched accuracy; diagnostic sets do not count.

    Args:
        figures: the metrics of each task, by name.

    >>> benchmark_average({"cola": {"matthews": 0.5}, "mrpc": {"f1": 0.9, "accuracy": 0.8}})
    0.675
    """
    return fmean(fmean(of_task.values()) for of_task in figures.values())


def standard_error(share: float, count: int) -> float:
    """The binomial standard error of a fraction that was measured on ``count`` rows.

    >>> round(standard_error(0.8, 400), 3)
    0.02
    """
    return math.sqrt(share * (1 - share) / count)
