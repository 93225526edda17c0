"""A comparison as figures: against examples, trained parameters and time, and as learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from mpt.adaptation.result import Result
from mpt.comparison.entries import ENTRIES
from mpt.comparison.estimates import Comparison, seconds, trained
from mpt.comparison.tables import k
from mpt.metrics.interval import Estimate
from mpt.render.plots import counting_axis, few_ticks, legend, level, line, panels, point

PLACES = {name: place for place, name in enumerate(ENTRIES)}  # a method looks the same in all figures


def figures(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    """Each figure that there are results for: its file's name, what it shows, and itself."""
    measure = _measure(comparison)
    if len(comparison.shots) > 1:
        yield "shots", f"{measure} against {_examples(comparison)}", against_shots(comparison)
    for name, words, of in (
        ("parameters", "trained parameters", lambda row: float(trained(row[0]))),
        ("seconds", "seconds of training, per seed", lambda row: float(np.mean([seconds(r) for r in row]))),
    ):
        yield name, f"{measure} against {words}", against(comparison, words, of)
    for shots in comparison.shots:
        if any(result.curve for method in comparison.methods for result in comparison.row(method, shots)):
            yield (
                f"curves_{shots or 'all'}",
                f"{measure} while training, {k(shots)}",
                curves(comparison, shots),
            )


def against_shots(comparison: Comparison) -> Figure:
    """The averages over targets against examples per class; the reference's interval."""
    drawn, (axes,) = panels(1, width=5.4, height=3.6)
    for method in comparison.methods:
        means = [
            (x, mean) for x, shots in enumerate(comparison.shots) if (mean := comparison.mean(method, shots))
        ]
        if means and not ENTRIES[method].trained:
            level(axes, PLACES[method], method, 100 * means[0][1].mean)
        elif means:
            low, high = zip(*(_span(mean) for _, mean in means))
            band = (low, high) if method == comparison.reference else ()
            line(axes, PLACES[method], method, [x for x, _ in means], [100 * m.mean for _, m in means], *band)
    axes.set_xticks(range(len(comparison.shots)), [str(shots or "all") for shots in comparison.shots])
    axes.set_xlabel(_examples(comparison))
    axes.set_ylabel(_label(comparison))
    legend(drawn)
    return drawn


def against(comparison: Comparison, words: str, of: Callable[[Sequence[Result]], float]) -> Figure:
    """The averages over targets, with intervals, against a cost: a panel for each number of shots.

    Args:
        words: what the cost is.
        of: a method's cost, from its results on the targets; 0 has no place on the logarithmic axis and
            is drawn as a line across.
    """
    drawn, grid = panels(len(comparison.shots))
    for axes, shots in zip(grid, comparison.shots):
        axes.set_xscale("log")
        axes.set_title(k(shots), fontsize=9)
        axes.set_xlabel(words)
        for method in comparison.methods:
            if not (mean := comparison.mean(method, shots)):
                continue
            if cost := of(comparison.row(method, shots)):
                point(axes, PLACES[method], method, cost, 100 * mean.mean, *_span(mean))
            else:
                level(axes, PLACES[method], method, 100 * mean.mean)
        few_ticks(axes)
    grid[0].set_ylabel(_label(comparison))
    legend(drawn)
    return drawn


def curves(comparison: Comparison, shots: int) -> Figure:
    """The mean on validation rows by step, a panel for each target."""
    drawn, grid = panels(len(comparison.targets))
    for axes, target in zip(grid, comparison.targets):
        counting_axis(axes)
        for method in comparison.methods:
            result = comparison.at(method, target, shots)
            if not result or not result.curve:
                continue
            axes.set_title(result.task, fontsize=9)
            steps, values = zip(*result.curve)
            line(axes, PLACES[method], method, steps, [100 * value for value in values])
    grid[0].set_ylabel("validation rows, %")
    legend(drawn)
    return drawn


def _span(mean: Estimate) -> tuple[float, float]:
    """The interval in percent; the range of draws that are too few for one; else the figure alone."""
    if mean.is_open:
        return 100 * min(mean.draws), 100 * max(mean.draws)
    if np.isnan(mean.half):
        return 100 * mean.mean, 100 * mean.mean
    return 100 * mean.low, 100 * mean.high


def _examples(comparison: Comparison) -> str:
    return "examples per class" if comparison.shots_per == "class" else "examples in all"


def _measure(comparison: Comparison) -> str:
    """The metric, where all targets have the same."""
    names = {result.metric for result in comparison.results.values()}
    return next(iter(names)).replace("_", " ").capitalize() if len(names) == 1 else "Figure"


def _label(comparison: Comparison) -> str:
    mean = f", mean of {len(comparison.targets)} tasks" if len(comparison.targets) > 1 else ""
    return f"{_measure(comparison)}, %{mean}"
