"""A comparison as text: the printed table, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from mpt.adaptation.result import Result
from mpt.comparison.entries import OURS
from mpt.comparison.estimates import Comparison, first_step, head_start, interval, seconds, trained
from mpt.metrics.interval import Estimate
from mpt.rundir.plain_json import json_text
from mpt.system.quantities import short as two_digits

NEVER = "–"
FEW = 2  # targets of which the printed table has columns, in 80 columns
MANY = 6  # targets of which a written table has columns; more have a line each, in a table of their own


Column = tuple[str, Callable[[str], str]]  # a heading, and a method's cell


def k(shots: int) -> str:
    """A number of shots in words."""
    return f"k = {shots}" if shots else "all rows"


def in_percent(estimate: Estimate | None, digits: int = 1) -> str:
    """A figure with its interval, or with those of its few draws; these have ``digits`` after the point."""
    if estimate is None:
        return ""
    if np.isnan(estimate.mean):
        return NEVER  # the metric is undefined for some answers
    mean = f"{100 * estimate.mean:.1f}"
    if np.isnan(estimate.variance):
        return mean
    shown = estimate.draws if estimate.is_open else (estimate.low, estimate.high)
    around = ", ".join(f"{100 * value:.{digits}f}" for value in shown)
    return f"{mean} ({around})" if estimate.is_open else f"{mean} [{around}]"


def table(comparison: Comparison, shots: int, short: bool = False) -> list[list[str]]:
    """The headings and, for each method, the cells of the table of one number of shots.

    Args:
        short: for a terminal: the targets if they are few, else their average alone.
    """
    columns: list[Column] = [("method", str)]
    if not short or len(comparison.targets) <= FEW:
        for target in comparison.targets:
            columns += _of_target(comparison, target, shots, digits=0 if short else 1)
    if len(comparison.targets) > (FEW if short else 1):
        columns.append(("average", lambda method: in_percent(comparison.mean(method, shots))))
    reference = comparison.reference
    if reference in comparison.methods and (not short or len(comparison.targets) > FEW):
        difference = comparison.difference
        columns.append((f"minus {reference}", lambda method: in_percent(difference(method, shots))))
    columns += [column for column in _costs(comparison, shots) if not short or "%" not in column[0]]
    return [
        [heading for heading, _ in columns],
        *([cell(m) for _, cell in columns] for m in comparison.methods),
    ]


def _of_target(comparison: Comparison, target: str, shots: int, digits: int) -> list[Column]:
    def figure(method: str) -> str:
        result = comparison.at(method, target, shots)
        return in_percent(result and interval(result), digits)

    def step(method: str) -> str:
        result = comparison.at(method, target, shots)
        first = result and first_step(result, comparison.goal)
        return NEVER if first is None else str(first)

    done = [result for method in comparison.methods if (result := comparison.at(method, target, shots))]
    heading = f"{done[0].task} {done[0].metric} (n={done[0].rows})" if done else target
    looked = any(result.curve for result in done)
    return [(heading, figure), *([(f"steps to {100 * comparison.goal:.0f}%", step)] if looked else [])]


def _costs(comparison: Comparison, shots: int) -> list[Column]:
    """What is alike for all targets is that of the first that is there; seconds are a mean."""

    def of(tell: Callable[[list[Result]], str]) -> Callable[[str], str]:
        def cell(method: str) -> str:
            done = [
                result for target in comparison.targets if (result := comparison.at(method, target, shots))
            ]
            return tell(done) if done else ""

        return cell

    return [
        ("trained parameters", of(lambda done: f"{trained(done[0]):,}")),
        ("% of the backbone", of(lambda done: two_digits(100 * trained(done[0]) / comparison.weights))),
        ("steps", of(lambda done: str(done[0].steps))),
        ("seconds", of(lambda done: f"{np.mean([seconds(result) for result in done]):.0f}")),
    ]


def printed(lines: Sequence[Sequence[str]], title: str, caption: str) -> Table:
    """The table for a terminal; an interval, or what two draws have, stands below its figure."""
    drawn = Table(title=title, caption=caption, box=SIMPLE, pad_edge=False, collapse_padding=True)
    headings, *rest = lines
    drawn.add_column(headings[0])
    for name in headings[1:]:
        drawn.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for line in rest:
        drawn.add_row(line[0], *(cell.replace(" [", "\n[").replace(" (", "\n(") for cell in line[1:]))
    return drawn


def written(comparison: Comparison, shots: int) -> list[list[list[str]]]:
    """The tables of one number of shots where there is room: one, or of many targets two."""
    if len(comparison.targets) <= MANY:
        return [table(comparison, shots)]
    return [table(comparison, shots, short=True), by_target(comparison, shots)]


def as_markdown(comparison: Comparison, notes: Sequence[str]) -> str:
    """Tables for each number of shots, and what is to be said of them."""
    parts = []
    for shots in comparison.shots:
        parts += [f"## {k(shots)}"] if len(comparison.shots) > 1 else []
        parts += map(_markdown, written(comparison, shots))
    return "\n\n".join([*parts, *filter(None, notes)]) + "\n"


def by_target(comparison: Comparison, shots: int) -> list[list[str]]:
    """The headings and, for each target that has figures, a line of them with a column for each method."""
    lines = [["target", "metric", "n", *comparison.methods]]
    for target in comparison.targets:
        results = [comparison.at(method, target, shots) for method in comparison.methods]
        if done := [result for result in results if result]:
            figures = [in_percent(result and interval(result)) for result in results]
            lines.append([done[0].task, done[0].metric, str(done[0].rows), *figures])
    return lines


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    headings, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *rest))


_OPEN = (
    " In parentheses are the scores of the draws, where these differ by more than their rows explain and are "
    "too few for an interval."
)
_GOAL = (
    " Steps to the goal are measured on validation rows, 0 being before training; "
    f"{NEVER} means never within the budget."
)


def caption(comparison: Comparison, pretraining: float | None) -> str:
    """How to read the tables."""
    seeds = max((len(result.scores) for result in comparison.results.values()), default=0)
    over = (
        "In percent, of one draw of training examples, with its 95 % interval over draws of test rows; "
        "seconds of training."
        if seeds == 1
        else f"In percent, the mean over {seeds} seeds with its 95 % interval, over draws of training "
        "examples and of test rows; seconds per seed."
    )
    return (
        over
        + (_OPEN if any(interval(result).is_open for result in comparison.results.values()) else "")
        + (_GOAL if any(result.curve for result in comparison.results.values()) else "")
        + ("" if pretraining is None else f" Training the universal prompt took {pretraining:.0f} s, once.")
        + _head_starts(comparison)
    )


def _head_starts(comparison: Comparison) -> str:
    """At which share of its steps the adapted universal prompt passes the best prompt from scratch."""
    sentences = []
    for shots in comparison.shots:
        shares = {target: head_start(comparison, target, shots) for target in comparison.targets}
        words = [
            f"{_task(comparison, target, shots)} {f'{100 * share[1]:.0f} %' if share[0] else 'never'}"
            for target, share in shares.items()
            if share
        ]
        sentences += [f"{k(shots)}: {', '.join(words)}"] if words else []
    if not sentences:
        return ""
    return (
        " The adapted universal prompt reaches what the better prompt from scratch ends with, on validation "
        f"rows, after this share of the steps: {'; '.join(sentences)}."
    )


def _task(comparison: Comparison, target: str, shots: int) -> str:
    result = comparison.at(OURS, target, shots)
    return result.task if result else target


FIELDS = (
    *("method", "target", "metric", "k", "mean", "std", "low", "high", "n", "seeds"),
    *("difference", "difference_low", "difference_high"),
    *("trained_parameters", "percent_of_backbone", "steps", "seconds", "steps_to_goal"),
)


def as_csv(comparison: Comparison) -> str:
    """A line per method, target and number of shots, and one for the average over targets.

    Figures are in percent; what is unknown is empty. ``difference`` is the method minus the
    reference. An untrained method has a line in each number of shots.
    """
    text = io.StringIO()
    lines = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    lines.writeheader()
    for shots in comparison.shots:
        for method in comparison.methods:
            for target in comparison.targets:
                if result := comparison.at(method, target, shots):
                    scores, step = 100 * np.array(result.scores), first_step(result, comparison.goal)
                    lines.writerow(
                        {
                            "method": method,
                            "target": result.task,
                            "metric": result.metric,
                            "k": shots or "all",
                        }
                        | _figures(interval(result), comparison.difference(method, shots, target))
                        | {
                            "std": f"{scores.std(ddof=1):.4g}"
                            if len(scores) > 1 and np.isfinite(scores).all()
                            else ""
                        }
                        | {"n": result.rows, "seeds": len(scores), "trained_parameters": trained(result)}
                        | {"percent_of_backbone": f"{100 * trained(result) / comparison.weights:.3g}"}
                        | {"steps": result.steps, "seconds": f"{seconds(result):.4g}"}
                        | {"steps_to_goal": "" if step is None else step}
                    )
            if mean := comparison.mean(method, shots):
                lines.writerow(
                    {"method": method, "target": "average", "k": shots or "all"}
                    | _figures(mean, comparison.difference(method, shots))
                )
    return text.getvalue()


def _figures(mean: Estimate, difference: Estimate | None) -> dict[str, str]:
    named = {"mean": mean.mean} | ({} if mean.is_open else {"low": mean.low, "high": mean.high})
    if difference:
        named |= {"difference": difference.mean}
    if difference and not difference.is_open:
        named |= {"difference_low": difference.low, "difference_high": difference.high}
    return {name: "" if np.isnan(value) else f"{100 * value:.4f}" for name, value in named.items()}


def as_json(comparison: Comparison) -> str:
    """Method -> its results, in the order of their runs; ``shots`` is null for an untrained one.

    The parts of scores are left out, each run's own ``results.json`` has them; and so is what a cell does not
    have, since baselines are entries of their own.
    """
    left_out = "parts", "baselines", "remarks"
    plain: dict[str, list] = {method: [] for method in comparison.methods}
    for cell, result in comparison.results.items():
        plain_result = {"shots": cell.shots, **dataclasses.asdict(result)}
        plain[cell.method].append(
            {name: value for name, value in plain_result.items() if name not in left_out}
        )
    return json_text(plain, indent=2) + "\n"
