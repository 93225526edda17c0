"""Figures of one look, for files and for pages that carry them inline."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, NullFormatter
from scipy.cluster.hierarchy import dendrogram

from mpt.rundir.directory import write_whole
from mpt.system.paths import AnyPath

# Okabe and Ito's colours, which the colour-blind can tell apart; black is left to text.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKS = "osD^vPX*"
NAMES = 5.0  # inches that two names take, one beside the other
# Words stay words, in the reader's own font; the same figure is the same file.
SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "mpt", "font.family": "sans-serif"}


def figure(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """An empty figure, in inches, with light axes."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    axes = drawn.subplots()
    _lighten(axes)
    return drawn, axes


def panels(count: int, width: float = 3.2, height: float = 3.0, most: int = 3) -> tuple[Figure, list[Axes]]:
    """Figures side by side, ``most`` in a row, of one height of y.

    Args:
        width: of one, in inches; as is ``height``.
    """
    columns = min(count, most)
    rows = -(-count // columns)
    # Wide enough for the names below them, see ``legend``.
    drawn = Figure(figsize=(max(columns * width, NAMES), rows * height), layout="constrained")
    grid = drawn.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for axes in grid[:count]:
        _lighten(axes)
    for axes in grid[count:]:
        axes.set_visible(False)
    return drawn, grid[:count]


def legend(drawn: Figure) -> None:
    """The names of all that is drawn in any of its panels, once, below them."""
    named = {}
    for axes in drawn.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= {label: handle for handle, label in zip(handles, labels) if label not in named}
    columns = int(drawn.get_figwidth() // (NAMES / 2))
    drawn.set_figheight(drawn.get_figheight() + 0.2 * -(-len(named) // columns))
    drawn.legend(
        named.values(), named.keys(), loc="outside lower left", ncols=columns, frameon=False, fontsize=8
    )


def _lighten(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#7F7F7F", alpha=0.25, linewidth=0.6)


def line(
    axes: Axes,
    place: int,
    label: str,
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
) -> None:
    """A marked line, with a band from ``low`` to ``high``.

    Args:
        place: among the figure's lines; gives the colour and the mark.
    """
    colour, mark = look(place)
    style = "--" if place >= len(COLOURS) else "-"
    axes.plot(x, y, label=label, color=colour, marker=mark, markersize=4, linewidth=1.4, linestyle=style)
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def few_ticks(axes: Axes) -> None:
    """Plain numbers that do not meet, where a logarithmic x spans less than a decade or two."""
    low, high = axes.get_xlim()
    axes.xaxis.set_minor_formatter(NullFormatter())
    if high < 20 * low:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.10g}")


def level(axes: Axes, place: int, label: str, y: float) -> None:
    """A figure that does not depend on x: a dotted line across."""
    axes.axhline(y, label=label, color=look(place)[0], linewidth=1.4, linestyle=":")


def point(axes: Axes, place: int, label: str, x: float, y: float, low: float, high: float) -> None:
    """A mark with a bar from ``low`` to ``high``."""
    colour, mark = look(place)
    axes.plot([x, x], [low, high], color=colour, linewidth=0.8, alpha=0.6)
    axes.plot([x], [y], label=label, color=colour, marker=mark, markersize=6, linestyle="none")


def look(place: int) -> tuple[str, str]:
    """Colour and mark of the line at ``place``; all of the first 64 differ."""
    return COLOURS[place % len(COLOURS)], MARKS[(place // len(COLOURS) + place) % len(MARKS)]


def heat_map(
    axes: Axes,
    values: Float[np.ndarray, "R C"],
    rows: Sequence[str],
    columns: Sequence[str],
    style: str = "{:.0f}",
) -> AxesImage:
    """A matrix with its numbers written in it; cells that are NaN stay empty.

    Args:
        style: of the numbers; an empty one writes none, so that the figure needs a colour bar.
    """
    axes.grid(False)
    shown = axes.imshow(np.ma.masked_invalid(values), cmap="cividis", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and style:
            red, green, blue, _ = shown.cmap(shown.norm(value))
            light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
            # Not quite black, which `inline` leaves to the page.
            colour = "#010101" if light else "white"
            axes.text(column, row, style.format(value), ha="center", va="center", color=colour, fontsize=8)
    return shown


def tree(axes: Axes, links: Float[np.ndarray, "joins 4"]) -> None:
    """What was joined, in SciPy's terms, above a heat map whose columns stand in the tree's order."""
    drawn = dendrogram(links, no_plot=True)
    above = axes.inset_axes((0, 1.02, 1, 0.18), sharex=axes)
    above.set_axis_off()
    for across, up in zip(drawn["icoord"], drawn["dcoord"]):
        # SciPy's leaves stand at 5, 15, 25.
        above.plot((np.array(across) - 5) / 10, up, color="#7F7F7F", linewidth=1)


def save(drawn: Figure, path: AnyPath) -> None:
    """Writes the figure whole, as SVG or PNG by the ending of ``path``, on white."""
    content = io.BytesIO()
    with rc_context(SVG):
        dated = {"Date": None} if path.suffix == ".svg" else {}
        drawn.savefig(content, format=path.suffix[1:], dpi=150, facecolor="white", metadata=dated)
    write_whole(path, content.getvalue())


def inline(drawn: Figure, title: str) -> str:
    """The figure as an ``<svg>`` element: see-through, black ink in the text colour of its page.

    Args:
        title: what it shows, for those who cannot see it.
    """
    content, width = io.StringIO(), round(96 * drawn.get_figwidth())
    with rc_context(SVG | {"svg.hashsalt": title}):
        drawn.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    drawing = re.sub(
        r"<metadata>.*?</metadata>|(?<=<g) id=\"[^\"]*\"", "", content.getvalue(), flags=re.DOTALL
    )
    head, body = drawing[drawing.index("<svg") :].split(">", 1)
    head = re.sub(r' (width|height)="[\d.]+pt"', "", head)
    # Where the page is narrow the figure scrolls rather than become too small to read.
    size = f"max-width: {width}px; min-width: {3 * width // 4}px"
    looks = f'role="img" aria-label="{html.escape(title)}" fill="currentColor" style="{size}"'
    return f"{head} {looks}>{body}".replace("#000000", "currentColor")
