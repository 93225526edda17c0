"""Ctrl-C and SIGTERM: training stops at the end of a step, and is saved there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Stopped(SystemExit):
    """SIGTERM has asked the process to stop, as a cluster does that takes its machine back.

    No error, as ``KeyboardInterrupt`` is none. The text says how far the run has come.
    """


def _stop(*_) -> None:
    raise Stopped("stopped as asked (SIGTERM); the same command goes on with what is not finished")


AT_ONCE = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _stop}


@contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """SIGTERM raises ``Stopped``, as Ctrl-C raises ``KeyboardInterrupt``."""
    with _handlers({signal.SIGTERM: _stop}):
        yield


@contextmanager
def deferred() -> Iterator[Callable[[], int]]:
    """Gives the function that tells which signal has come; 0 for none. A second one acts at once.

    An exception in the middle of a save, or of a write that a thread waits for, can hang a library.
    """
    came = [0]

    def note(number: int, _) -> None:
        came[0] = number
        for each, handler in AT_ONCE.items():
            signal.signal(each, handler)

    with _handlers(dict.fromkeys(AT_ONCE, note)):
        yield lambda: came[0]
    if came[0]:  # too late for the block to see it
        signal.raise_signal(came[0])


@contextmanager
def _handlers(handlers: Mapping[signal.Signals, Callable[..., Any]]) -> Iterator[None]:
    """Handles signals so; only the main thread may, others leave them as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
