"""The results of continual learning: scores, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.table import Table

from mpt.config.continual import ContinualMethod
from mpt.metrics.transfer import average_accuracy, backward_transfer, forward_transfer
from mpt.render.plots import COLOURS, figure, heat_map, line, save
from mpt.rundir.directory import write_atomic
from mpt.rundir.plain_json import json_text, with_nan
from mpt.system.paths import AnyPath

TITLES: dict[ContinualMethod, str] = {
    "factors": "factors, shared prompt frozen",
    "shared": "shared prompt, distilled",
    "progressive": "Progressive Prompts",
    "naive": "naive sequential tuning",
}
HEADER = (
    "method",
    "average",
    "backward transfer",
    "forward transfer",
    "average, task-agnostic",
    "trained for the last task",
    "seconds",
)


@dataclass(frozen=True)
class Outcome:
    """What a method gave. All figures are the tasks' metrics on test rows.

    Attributes:
        before: each task's, before anything was learned.
        matrix: row i has each task's once task i had been learned.
        guessed: each task's at the end, with every row read as one of the task that it is taken for.
        parameters: trained numbers of each task.
        seconds: spent in training steps, for all tasks.
    """

    before: list[float]
    matrix: list[list[float]]
    guessed: list[float]
    parameters: list[int]
    seconds: float

    @property
    def figures(self) -> dict[str, float]:
        """The summaries of the matrix; see ``mpt.metrics.transfer``."""
        matrix = np.array(self.matrix)
        return {
            "average": average_accuracy(matrix),
            "backward transfer": backward_transfer(matrix),
            "forward transfer": forward_transfer(matrix, np.array(self.before)),
            "average, task-agnostic": float(np.mean(self.guessed)),
        }


@dataclass(frozen=True)
class Results:
    """What all methods gave.

    Attributes:
        tasks: in the order in which they were learned, as are the next three.
        metrics: the metric of each.
        rows: test rows of each.
        identified: the share of each task's test rows that were taken for that task's.
        outcomes: what each method gave.
    """

    tasks: list[str]
    metrics: list[str]
    rows: list[int]
    identified: list[float]
    outcomes: Mapping[ContinualMethod, Outcome]


def write_report(run: AnyPath, results: Results) -> None:
    """Writes results.md, a picture of each method's matrix and one of all, and at last results.json."""
    for method, outcome in results.outcomes.items():
        save(matrix_picture(TITLES[method], results.tasks, outcome), run / method / "matrix.svg")
    save(course_picture(results), run / "course.svg")
    write_atomic(run / "results.md", _markdown(results))
    plain = asdict(results)
    for method, outcome in results.outcomes.items():
        plain["outcomes"][method] |= outcome.figures
    write_atomic(run / "results.json", json_text(plain, indent=2) + "\n")


def read_results(run: AnyPath) -> Results | None:
    """The results of a finished run."""
    if not (run / "results.json").exists():
        return None
    plain = with_nan((run / "results.json").read_text())
    names = Outcome.__dataclass_fields__
    outcomes = {
        method: Outcome(**{name: found[name] for name in names})
        for method, found in plain.pop("outcomes").items()
    }
    return Results(outcomes=outcomes, **plain)


def matrix_picture(title: str, tasks: Sequence[str], outcome: Outcome) -> Figure:
    """The matrix in percent, one row after another down the page; what is learned lies left of the line."""
    values = 100 * np.array([outcome.before, *outcome.matrix])
    count = len(tasks)
    drawn, axes = figure(2.4 + 0.8 * count, 1.6 + 0.4 * count)
    heat_map(axes, values, ["before", *(f"after {task}" for task in tasks)], tasks)
    edges = np.arange(count + 1)
    # Down the right side of the last task that a row has learned.
    across, down = np.repeat(edges - 0.5, 2)[1:], np.repeat(edges + 0.5, 2)[:-1]
    axes.plot(across, down, color=COLOURS[1], linewidth=2)
    axes.set_title(title)
    return drawn


def course_picture(results: Results) -> Figure:
    """Each method's mean over the tasks learned so far, as tasks are learned."""
    drawn, axes = figure()
    places = range(1, len(results.tasks) + 1)
    for place, (method, outcome) in enumerate(results.outcomes.items()):
        line(axes, place, TITLES[method], places, (100 * course(np.array(outcome.matrix))).tolist())
    axes.set_xticks(places, [f"after {task}" for task in results.tasks])
    axes.set_ylabel("mean over the tasks learned so far, %")
    axes.legend(frameon=False)
    return drawn


def course(matrix: Float[np.ndarray, "J J"]) -> Float[np.ndarray, " J"]:
    """The mean over tasks 0 to i once task i has been learned, for every i.

    >>> course(np.array([[0.5, 0.25], [0.75, 1.0]]))
    array([0.5  , 0.875])
    """
    return np.array([row[: place + 1].mean() for place, row in enumerate(matrix)])


def table(results: Results) -> Table:
    """The summary, for the screen."""
    shown = Table(caption=_caption(results), box=SIMPLE, pad_edge=False, collapse_padding=True)
    shown.add_column(HEADER[0])
    for name in HEADER[1:]:
        shown.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for cells in _lines(results):
        shown.add_row(*cells)
    return shown


def summary(results: Results) -> tuple[list[list[str]], str]:
    """The lines of the summary under ``HEADER``, and how to read them."""
    return _lines(results), _caption(results)


def _lines(results: Results) -> list[list[str]]:
    lines = []
    for method, outcome in results.outcomes.items():
        average, backward, forward, guessed = (100 * value for value in outcome.figures.values())
        shares = [f"{average:.1f}", f"{backward:+.1f}", f"{forward:+.1f}", f"{guessed:.1f}"]
        lines.append([TITLES[method], *shares, f"{outcome.parameters[-1]:,}", f"{outcome.seconds:.0f}"])
    return lines


def _caption(results: Results) -> str:
    return (
        f"In percent, of {' → '.join(results.tasks)}. Task-agnostic: each row's task is inferred, "
        f"correctly for {100 * np.mean(results.identified):.1f}%."
    )


def _markdown(results: Results) -> str:
    parts = [_grid(list(HEADER), _lines(results)), _caption(results), "![](course.svg)"]
    identified = [f"{100 * share:.1f}" for share in results.identified]
    heads = [f"{t} {m} (n={n})" for t, m, n in zip(results.tasks, results.metrics, results.rows)]
    for method, outcome in results.outcomes.items():
        rows = {"before": outcome.before, **dict(zip(results.tasks, outcome.matrix))}
        cells = [
            [name if name == "before" else f"after {name}", *(f"{100 * value:.1f}" for value in row)]
            for name, row in rows.items()
        ]
        cells.append(["at the end, task-agnostic", *(f"{100 * value:.1f}" for value in outcome.guessed)])
        cells.append(["task inferred rightly", *identified])
        parts += [f"## {TITLES[method]}", _grid(["", *heads], cells), f"![]({method}/matrix.svg)"]
    return "\n\n".join(parts) + "\n"


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])
