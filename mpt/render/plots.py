"""Figures in a common style, for files and to be embedded in pages."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullFormatter
from scipy.cluster.hierarchy import dendrogram

from mpt.rundir.directory import write_atomic
from mpt.system.paths import AnyPath

# Okabe and Ito's colours, which colour-blind people can distinguish; black is for text only.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKS = "osD^vPX*"
NAMES = 5.0  # inches that two names take side by side in a legend
# Text stays text, in the reader's own font; and the same figure gives the same file.
SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "mpt", "font.family": "sans-serif"}


def figure(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """An empty figure with light axes; sizes are in inches."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    axes = drawn.subplots()
    _lighten(axes)
    return drawn, axes


def panels(
    count: int, width: float = 3.2, height: float = 3.0, max_columns: int = 3
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels that share their y axis.

    Args:
        width: the width of a panel in inches.
        height: the height of a panel in inches.
        max_columns: maximum number of panels side by side.
    """
    columns = min(count, max_columns)
    rows = -(-count // columns)
    # Wide enough for the names below; see ``legend``.
    drawn = Figure(figsize=(max(columns * width, NAMES), rows * height), layout="constrained")
    grid = drawn.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for axes in grid[:count]:
        _lighten(axes)
    for axes in grid[count:]:
        axes.set_visible(False)
    return drawn, grid[:count]


def legend(drawn: Figure) -> None:
    """Adds a legend below a figure, with each name that occurs in its panels once."""
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
    index: int,
    label: str,
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
) -> None:
    """Draws a line with marks, and a band from ``low`` to ``high``.

    Args:
        index: the number of the line in the figure, which determines its colour and mark.
    """
    colour, mark = colour_and_mark(index)
    style = "--" if index >= len(COLOURS) else "-"
    drawn: Any = {"label": plain(label), "color": colour, "marker": mark}
    axes.plot(x, y, markersize=4, linewidth=1.4, linestyle=style, **drawn)
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def few_ticks(axes: Axes) -> None:
    """Labels a logarithmic x axis with a few plain numbers if it spans little more than a decade."""
    low, high = axes.get_xlim()
    axes.xaxis.set_minor_formatter(NullFormatter())
    if high < 20 * low:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.10g}")


def counting_axis(axes: Axes, counted: str = "step") -> None:
    """Has an x axis count steps, or positions, in whole numbers however few they are."""
    axes.set_xlabel(counted)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def level(axes: Axes, index: int, label: str, y: float) -> None:
    """Draws a value that does not depend on x, as a dotted horizontal line."""
    axes.axhline(y, label=plain(label), color=colour_and_mark(index)[0], linewidth=1.4, linestyle=":")


def point(axes: Axes, index: int, label: str, x: float, y: float, low: float, high: float) -> None:
    """Draws a mark with an error bar from ``low`` to ``high``."""
    colour, mark = colour_and_mark(index)
    axes.plot([x, x], [low, high], color=colour, linewidth=0.8, alpha=0.6)
    axes.plot([x], [y], label=plain(label), color=colour, marker=mark, markersize=6, linestyle="none")


def colour_and_mark(index: int) -> tuple[str, str]:
    """The colour and mark of a line; those of the first 64 lines are all different."""
    return COLOURS[index % len(COLOURS)], MARKS[(index // len(COLOURS) + index) % len(MARKS)]


def heat_map(
    axes: Axes,
    values: Float[np.ndarray, "R C"],
    rows: Sequence[str],
    columns: Sequence[str],
    style: str = "{:.0f}",
) -> AxesImage:
    """Draws a matrix as a heat map with its numbers; cells that are NaN stay empty.

    Args:
        style: the format of the numbers; if empty, they are left out, and the figure needs a colour bar.
    """
    axes.grid(False)
    image = axes.imshow(np.ma.masked_invalid(values), cmap="cividis", aspect="auto")
    axes.set_xticks(
        range(len(columns)), [*map(plain, columns)], rotation=30, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(rows)), [*map(plain, rows)])
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and style:
            red, green, blue, _ = image.cmap(image.norm(value))
            light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
            # Not quite black, because `inline` replaces black by the page's text colour.
            colour = "#010101" if light else "white"
            axes.text(column, row, style.format(value), ha="center", va="center", color=colour, fontsize=8)
    return image


def tree(axes: Axes, links: Float[np.ndarray, "joins 4"]) -> None:
    """Draws SciPy's linkage as a tree above a heat map whose columns are in the tree's order."""
    drawn = dendrogram(links, no_plot=True)
    above = axes.inset_axes((0, 1.02, 1, 0.18), sharex=axes)
    above.set_axis_off()
    for across, up in zip(drawn["icoord"], drawn["dcoord"]):
        # SciPy puts the leaves at 5, 15, 25, ...
        above.plot((np.array(across) - 5) / 10, up, color="#7F7F7F", linewidth=1)


def plain(text: str) -> str:
    """A text as Matplotlib draws it word for word: dollars do not begin a formula."""
    return text.replace("$", r"\$")


@contextmanager
def _in_any_script(drawn: Figure, style: Any) -> Iterator[None]:
    """Draws a figure with installed fonts for what Matplotlib's own has no shapes for.

    Where none is installed, nothing is said: the text stands in the file, and its reader has the font.
    """
    for text in drawn.findobj(Text):
        others = {_font_with(character) for character in text.get_text() if character > "\u02ff"} - {""}
        text.set_fontfamily([*text.get_fontfamily(), *sorted(others - {*text.get_fontfamily()})])
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font|Matplotlib currently does not support")
        yield


@cache
def _font_with(character: str) -> str:
    """The name of an installed font that has a character: none, where Matplotlib's own has it, or no font."""
    own = [font for font in fontManager.ttflist if font.name == "DejaVu Sans"]
    for font in [*own, *sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname))]:
        if ord(character) in _characters(font.fname):
            return "" if font in own else font.name
    return ""


@cache
def _characters(font: str) -> frozenset[int]:
    """The characters that a font has shapes for; the font of last resort has boxes alone."""
    try:
        return frozenset() if "LastResort" in font else frozenset(get_font(font).get_charmap())
    except (OSError, RuntimeError):  # it was removed, or is of a kind that Matplotlib cannot read
        return frozenset()


def save(drawn: Figure, path: AnyPath) -> None:
    """Writes a figure on a white background, as SVG or PNG by the ending of ``path``."""
    content = io.BytesIO()
    with _in_any_script(drawn, SVG):
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        drawn.savefig(content, format=path.suffix[1:], dpi=150, facecolor="white", metadata=metadata)
    write_atomic(path, content.getvalue())


def inline(drawn: Figure, title: str) -> str:
    """A figure as an ``<svg>`` element with a transparent background and the page's text colour as black.

    Args:
        title: a description of the figure for those who cannot see it.
    """
    content, width = io.StringIO(), round(96 * drawn.get_figwidth())
    with _in_any_script(drawn, SVG | {"svg.hashsalt": title}):
        drawn.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    drawing = re.sub(
        r"<metadata>.*?</metadata>|(?<=<g) id=\"[^\"]*\"", "", content.getvalue(), flags=re.DOTALL
    )
    head, body = drawing[drawing.index("<svg") :].split(">", 1)
    head = re.sub(r' (width|height)="[\d.]+pt"', "", head)
    # On a narrow page the figure shrinks, and fits. A name may be wider than was measured, in a font that is
    # not installed here: it is not cut off.
    size = f"max-width: {width}px; overflow: visible"
    attributes = f'role="img" aria-label="{html.escape(title)}" fill="currentColor" style="{size}"'
    return f"{head} {attributes}>{body}".replace("#000000", "currentColor")
