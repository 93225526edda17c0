"""Shows progress: a bar with losses and remaining time in a terminal or notebook, lines in a log."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from mpt.system.processes import is_primary
from mpt.system.quantities import duration
from mpt.system.said import LINE_EVERY

BAR, FIGURES = 4, 50  # columns that a bar needs, and those of the text after it
DRAWN_EVERY = 0.5  # seconds between updates in a notebook


class Progress:
    """The progress of some work, as a context manager.

    Args:
        title: the name of the work.
        total: number of steps.
        done: number of steps that are done already, such as before a run was interrupted.
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self._title, self._total, self._done = title, total, done
        self._console = Console(stderr=True, quiet=not is_primary())
        left = self._console.width - len(title) - FIGURES
        self._above = left < BAR and self._console.is_terminal  # of the bar, so that no figure is cut
        self._bars = Bars(
            *[TextColumn("{task.description}")] * (not self._above),
            BarColumn(max(BAR, min(40, left))),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bar = self._bars.add_task(title, total=total, completed=done, figures="")
        self._shown = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first step ended, which compiles, and which
        self._cell: Any = None

    def __enter__(self) -> Progress:
        if self._above:
            self._console.print(self._title, soft_wrap=True)
        self._bars.start()
        if self._console.is_jupyter and self._done < self._total:
            from IPython.display import display  # it comes with Jupyter

            # Not rich's live display: it needs ipywidgets, and disappears when the notebook is saved.
            self._cell = display(self._bars, display_id=True)
        return self

    def __exit__(self, *_) -> None:
        self._bars.stop()

    def step(self, figures: str) -> None:
        """Counts one more step; ``figures`` is a text that is shown after the bar."""
        self._done += 1
        self._bars.update(self._bar, advance=1, figures=figures)
        now, last = time.monotonic(), self._done == self._total
        if self._cell:
            if last or now - self._shown > DRAWN_EVERY:
                self._shown = now
                self._cell.update(self._bars)
        elif not self._console.is_terminal and (last or now - self._shown > LINE_EVERY):
            self._shown = now
            line = f"{self._title}: {self._done}/{self._total}, {figures}{self._left(now)}"
            self._console.print(line, soft_wrap=True)
        self._first = self._first or (now, self._done)

    def _left(self, now: float) -> str:
        """The estimated time for the rest, from the steps after the first; empty if it is not known yet."""
        if self._first is None or self._done == self._total:
            return ""
        since, first = self._first
        return f", {duration((now - since) / (self._done - first) * (self._total - self._done))} left"
