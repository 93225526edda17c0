"""Progress on the screen: a bar with loss, rows per second and time left, or lines in a log."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from mpt.processes import first

LINE_EVERY = 15.0  # seconds, where the output is no terminal


class Progress:
    """The progress of one piece of work; use as a context manager."""

    def __init__(self, title: str, total: int, done: int = 0):
        self._title, self._total, self._done, self._first = title, total, done, done
        self._console = Console(stderr=True, quiet=not first())
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

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_) -> None:
        self._bars.stop()

    def step(self, figures: str) -> None:
        """One more step is done; ``figures`` is what to show beside the bar."""
        self._done += 1
        self._bars.update(self._bar, advance=1, figures=figures)
        now = time.monotonic()
        if not self._console.is_terminal and (self._done == self._total or now - self._spoken > LINE_EVERY):
            self._spoken = now
            left = (now - self._began) / (self._done - self._first) * (self._total - self._done)
            self._console.print(
                f"{self._title}: {self._done}/{self._total}, {figures}, {left:.0f} s left", soft_wrap=True
            )
