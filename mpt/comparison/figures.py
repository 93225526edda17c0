"""A comparison as figures: against examples, trained parameters and time, and as learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from mpt.adaptation.result import Result
from mpt.comparison.entries import ENTRIES, OURS
from mpt.comparison.estimates import Comparison, seconds, trained
from mpt.comparison.tables import k
from mpt.metrics.interval import Estimate
from mpt.render.plots import few_ticks, legend, level, line, panels, point

PLACES = {name: place for place, name in enumerate(ENTRIES)}  # a method looks the same in all figures


def figures(found: Comparison) -> Iterator[tuple[str, str, Figure]]:
    """Each figure that there are results for: its file's name, what it shows, and itself."""
    measure = _measure(found)
    if len(found.shots) > 1:
        yield "shots", f"{measure} against {_examples(found)}", against_shots(found)
    for name, words, of in (
        ("parameters", "trained parameters", lambda row: float(trained(row[0]))),
        ("seconds", "seconds of training, per seed", lambda row: float(np.mean([seconds(r) for r in row]))),
    ):
        yield name, f"{measure} against {words}", against(found, words, of)
    for shots in found.shots:
        if any(result.curve for method in found.methods for result in found.row(method, shots)):
            yield f"curves_{shots or 'all'}", f"{measure} while training, {k(shots)}", curves(found, shots)


def against_shots(found: Comparison) -> Figure:
    """The averages over targets against examples per class; the adapted universal prompt's interval."""
    drawn, (axes,) = panels(1, width=5.4, height=3.6)
    for method in found.methods:
        means = [(x, mean) for x, shots in enumerate(found.shots) if (mean := found.mean(method, shots))]
        if means and not ENTRIES[method].trained:
            level(axes, PLACES[method], method, 100 * means[0][1].mean)
        elif means:
            low, high = zip(*(_span(mean) for _, mean in means))
            band = (low, high) if method == OURS else ()
            line(axes, PLACES[method], method, [x for x, _ in means], [100 * m.mean for _, m in means], *band)
    axes.set_xticks(range(len(found.shots)), [str(shots or "all") for shots in found.shots])
    axes.set_xlabel(_examples(found))
    axes.set_ylabel(_label(found))
    legend(drawn)
    return drawn


def against(found: Comparison, words: str, of: Callable[[Sequence[Result]], float]) -> Figure:
    """The averages over targets, with intervals, against a cost: a panel for each number of shots.

    Args:
        words: what the cost is.
        of: a method's cost, from its results on the targets; 0 has no place on the logarithmic axis and
            is drawn as a line across.
    """
    drawn, grid = panels(len(found.shots))
    for axes, shots in zip(grid, found.shots):
        axes.set_xscale("log")
        axes.set_title(k(shots), fontsize=9)
        axes.set_xlabel(words)
        for method in found.methods:
            if not (mean := found.mean(method, shots)):
                continue
            if cost := of(found.row(method, shots)):
                point(axes, PLACES[method], method, cost, 100 * mean.mean, *_span(mean))
            else:
                level(axes, PLACES[method], method, 100 * mean.mean)
        few_ticks(axes)
    grid[0].set_ylabel(_label(found))
    legend(drawn)
    return drawn


def curves(found: Comparison, shots: int) -> Figure:
    """The mean on validation rows by step, a panel for each target."""
    drawn, grid = panels(len(found.targets))
    for axes, target in zip(grid, found.targets):
        axes.set_xlabel("step")
        for method in found.methods:
            result = found.at(method, target, shots)
            if not result or not result.curve:
                continue
            axes.set_title(result.task, fontsize=9)
            steps, values = zip(*result.curve)
            line(axes, PLACES[method], method, steps, [100 * value for value in values])
    grid[0].set_ylabel("validation rows, %")
    legend(drawn)
    return drawn


def _span(mean: Estimate) -> tuple[float, float]:
    """The interval in percent; the figure alone where none is known."""
    half = 0.0 if np.isnan(mean.half) else mean.half
    return 100 * (mean.mean - half), 100 * (mean.mean + half)


def _examples(found: Comparison) -> str:
    return "examples per class" if found.shots_per == "class" else "examples in all"


def _measure(found: Comparison) -> str:
    """The metric, where all targets have the same."""
    names = {result.metric for result in found.found.values()}
    return next(iter(names)).replace("_", " ").capitalize() if len(names) == 1 else "Figure"


def _label(found: Comparison) -> str:
    mean = f", mean of {len(found.targets)} tasks" if len(found.targets) > 1 else ""
    return f"{_measure(found)}, %{mean}"
