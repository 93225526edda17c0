"""Tables of numbers on the console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

UNKNOWN = "unknown"


def table(title: str, numbers: Sequence[str]) -> Table:
    """An empty table with a column of names, and one for each heading in ``numbers``.

    Numbers are aligned to the right and never cut.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("", min_width=17, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def short(value: float) -> str:
    """A number with two significant digits, or as an integer from 10 on."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def number(count: int | None) -> str:
    """A count with thousands separators; "unknown" for None."""
    return UNKNOWN if count is None else f"{count:,}"
