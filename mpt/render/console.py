"""Tables on the console: each fits it, or becomes a list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import TextWrapper

from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

UNKNOWN = "unknown"
WIDE = 10_000  # columns, more than any table
FOLDED = 24  # columns in which the names of a path are not broken


class _Folder(TextWrapper):
    """Wraps text after spaces and slashes."""

    wordsep_re = re.compile(r"(\s+|[^\s/]*/+|[^\s/]+)")


@dataclass(frozen=True)
class PathText:
    """A cell with a path, a URL or a name such as owner/name: it breaks between names, hardly within one."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield Text("\n".join(_Folder(options.max_width).wrap(self.text)))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        names = max(map(len, _Folder.wordsep_re.findall(self.text)), default=0)
        return Measurement(min(names, FOLDED), len(self.text))


def table(title: str, numbers: Sequence[str]) -> Table:
    """An empty table with a column of names, and one for each heading in ``numbers``.

    Numbers are aligned to the right and never cut.
    """
    table = Table(title=title, box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def number(count: int | None) -> str:
    """A count with thousands separators; "unknown" for None."""
    return UNKNOWN if count is None else f"{count:,}"


def print_table(console: Console, table: Table) -> None:
    """Prints a table without breaking a word; where the console is too narrow for that, as a list of rows."""
    table.title_justify = table.caption_justify = "left"
    wide = console.options.update(width=WIDE)
    spans = [_span(console, wide, column) for column in table.columns]
    between = console.measure(table, options=wide).maximum - sum(most for _, most in spans)
    room = console.width - between
    if sum(least for least, _ in spans) > room:
        _print_list(console, table)
        return
    for column, width in zip(table.columns, _widths(spans, room)):
        column.width = width
    console.print(table)


def _span(console: Console, wide: ConsoleOptions, column: Column) -> tuple[int, int]:
    """The least and the most width that a column can use."""
    sizes = [console.measure(cell, options=wide) for cell in (column.header, *column.cells)]
    most = max(column.min_width or 0, *(size.maximum for size in sizes))
    least = most if column.no_wrap else max(size.minimum for size in sizes)
    return least, most


def _widths(spans: Sequence[tuple[int, int]], room: int) -> list[int]:
    """The columns' widths: each its least, and what is left goes to those whose cells take the most lines."""
    widths = [max(least, 1) for least, _ in spans]
    for _ in range(min(room, sum(most for _, most in spans)) - sum(widths)):
        lines = [most / width for (_, most), width in zip(spans, widths)]
        widths[lines.index(max(lines))] += 1
    return widths


def _print_list(console: Console, table: Table) -> None:
    """Prints each row as lines: its name, and below it what has a heading or stands alone."""

    def add(text: str, indent: str = "") -> None:
        lines.extend(_Folder(console.width, indent, 2 * indent).wrap(text))

    lines: list[str] = []
    headings = [_plain(console, column.header) for column in table.columns]
    add(_plain(console, table.title))
    for cells in zip(*([_plain(console, cell) for cell in column.cells] for column in table.columns)):
        lines.append("")
        for place, (heading, cell) in enumerate(zip(headings, cells)):
            named = heading and (place or cell.isdecimal())
            if cell:
                add(f"{heading}: {cell}" if named else cell, "  " * bool(place))
    lines.append("")
    add(_plain(console, table.caption))
    console.print(Text("\n".join(lines)), soft_wrap=True)


def _plain(console: Console, cell: RenderableType | None) -> str:
    """A cell in one line."""
    text = cell.plain if isinstance(cell, Text) else console.render_str(str(cell or "")).plain
    return " ".join(text.replace("-\n", "").split())
