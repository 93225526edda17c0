"""Tables of figures on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

UNKNOWN = "unknown"


def table(title: str, numbers: Sequence[str]) -> Table:
    """A table of names and ``numbers``, which are never cut."""
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("", min_width=17, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def short(value: float) -> str:
    """Two digits that count, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def number(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"
