"""Learning curves: the loss of every step, and the metric of every evaluation on validation rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from mpt.render.html import Html, Section, drawing, grid, paragraph
from mpt.render.plots import colour_and_mark, counting_axis, figure, inline, line
from mpt.report.facts import Stage

SIZE = 4.6, 2.7  # inches; two fit side by side on a page, and one on a telephone
TOGETHER = 8  # tasks whose lines share a figure
SMOOTH = 40  # a running mean has about this many windows
MAX_POINTS = 400  # maximum number of points that are drawn of a line
WORDS = {
    "loss": "total loss",
    "task": "task loss",
    "kl": "KL from the teachers",
    "hidden": "hidden states' squared error",
}


def curve_sections(stages: Sequence[Stage]) -> Iterator[Section]:
    """The section with the learning curves of a run; the same stage of several seeds shares its figures."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        if stage.lines:
            name, _, suffix = stage.name.rpartition("-")
            groups.setdefault(name if suffix.isdecimal() else stage.name, []).append(stage)
    blocks = [part for name, group in groups.items() for part in _curves(name, group)]
    if not blocks:
        return
    words = paragraph(
        "The loss of each step on its own rows (faint) and its running mean; and the metric on validation "
        "rows, if the run was evaluated on them. Step 0 is before training."
    )
    yield Section("Learning curves", [words, grid(blocks)])


def _curves(name: str, group: Sequence[Stage]) -> Iterator[Html]:
    keys = dict.fromkeys(key for stage in group for line in stage.lines for key in line)
    validation = [key for key in keys if key.startswith("validation")]
    tasks = sorted(key for key in keys if key.startswith("task "))  # the same colours in every stage
    terms = [key for key in WORDS if key in keys]
    if len(terms) == 2:  # with a single term, the total loss is the same
        terms.remove("loss")
    for key in terms:
        words = WORDS[key]
        drawn, axes = figure(*SIZE)
        for index, stage in enumerate(group):
            steps, values = _series(stage.lines, key)
            _noisy(axes, index, stage.name, steps, values)
        counting_axis(axes)
        axes.set_ylabel("squared error" if key == "hidden" else "nats")
        if len(group) > 1:
            axes.legend(frameon=False, fontsize=8)
        yield drawing(inline(drawn, f"{name}, {words}"), f"{name}: {words} on training rows.")
    for first in range(0, len(tasks), TOGETHER):
        drawn, axes = figure(*SIZE)
        for index, label, steps, values in _labelled(group, tasks[first : first + TOGETHER], "task"):
            colour, mark = colour_and_mark(index)
            style = {"color": colour, "marker": mark, "markersize": 4, "markevery": 0.1, "linewidth": 1.4}
            axes.plot(steps, running_mean(values), label=label, **style)
        counting_axis(axes)
        axes.set_ylabel("nats")
        axes.legend(frameon=False, fontsize=8)
        caption = f"{name}: task loss on each task's own training rows, running means."
        yield drawing(inline(drawn, f"{name}, each task's loss"), caption)
    if validation:
        drawn, axes = figure(*SIZE)
        for index, label, steps, values in _labelled(group, validation, "validation"):
            line(axes, index, label, steps.tolist(), (100 * values).tolist())
        counting_axis(axes)
        axes.set_ylabel("metric × 100")
        if len(group) * len(validation) > 1:
            axes.legend(frameon=False, fontsize=8)
        caption = f"{name}: the task's metric on validation rows, the mean over the seeds of a stage."
        yield drawing(inline(drawn, f"{name}, validation"), caption)


def _labelled(
    group: Sequence[Stage], keys: Sequence[str], prefix: str
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """Yields the line of each stage and key: its index, its label, its steps and its values."""
    for index, (stage, key) in enumerate((stage, key) for stage in group for key in keys):
        task = key.removeprefix(prefix).strip()
        label = " ".join(filter(None, [task, stage.name if len(group) > 1 else ""]))
        yield index, label, *_series(stage.lines, key)


def _series(lines: Sequence[Mapping[str, float]], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(one["step"], one[key]) for one in lines if key in one]
    steps, values = np.array(pairs, float).reshape(-1, 2).T
    return steps, values


def _noisy(axes: Axes, index: int, label: str, steps: np.ndarray, values: np.ndarray) -> None:
    """Draws a faint line of the values, and a clear line of their running mean."""
    colour, _ = colour_and_mark(index)
    thinned = slice(None, None, -(-len(steps) // MAX_POINTS))
    axes.plot(steps[thinned], values[thinned], color=colour, linewidth=0.8, alpha=0.35)
    axes.plot(steps[thinned], running_mean(values)[thinned], color=colour, linewidth=1.6, label=label)


def running_mean(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The mean of each value and its neighbours on both sides, of which there are fewer at the ends.

    >>> running_mean(np.array([1.0, 2.0, 6.0]))
    array([1., 2., 6.])
    >>> running_mean(np.arange(120.0))[[0, 60, 119]]
    array([  0.5,  60. , 118.5])
    """
    half = len(values) // SMOOTH // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    indices = np.arange(len(values))
    low, high = np.maximum(indices - half, 0), np.minimum(indices + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
