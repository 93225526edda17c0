"""Progress on the screen or in a notebook: a bar with loss and time left; in a log, lines."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from mpt.system.processes import is_primary

LINE_EVERY = 15.0  # seconds, where the output is no terminal
DRAWN_EVERY = 0.5  # seconds, in a notebook


class Progress:
    """The progress of one piece of work; use as a context manager."""

    def __init__(self, title: str, total: int, done: int = 0):
        self._title, self._total, self._done, self._first = title, total, done, done
        self._console = Console(stderr=True, quiet=not is_primary())
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bar = self._bars.add_task(title, total=total, completed=done, figures="")
        self._began = self._spoken = time.monotonic()
        self._cell: Any = None

    def __enter__(self) -> Progress:
        self._bars.start()
        if self._console.is_jupyter and self._done < self._total:
            from IPython.display import display  # it is there where Jupyter is

            # Not rich's own live display, which asks for ipywidgets, and is lost when the notebook is saved.
            self._cell = display(self._bars, display_id=True)
        return self

    def __exit__(self, *_) -> None:
        self._bars.stop()

    def step(self, figures: str) -> None:
        """One more step is done; ``figures`` is what to show beside the bar."""
        self._done += 1
        self._bars.update(self._bar, advance=1, figures=figures)
        now, last = time.monotonic(), self._done == self._total
        if self._cell:
            if last or now - self._spoken > DRAWN_EVERY:
                self._spoken = now
                self._cell.update(self._bars)
        elif not self._console.is_terminal and (last or now - self._spoken > LINE_EVERY):
            self._spoken = now
            left = (now - self._began) / (self._done - self._first) * (self._total - self._done)
            self._console.print(
                f"{self._title}: {self._done}/{self._total}, {figures}, {left:.0f} s left", soft_wrap=True
            )
