"""Handles Ctrl-C and SIGTERM, so that training stops at the end of a step and saves a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mpt.system.interrupts import STATUS, look_later
from mpt.system.said import is_aloud, say

STOPPED = 128 + signal.SIGTERM  # the exit status, by which a cluster sees that the run is to be resumed
GRACE = 2.0  # seconds until a second Ctrl-C ends a process that is amid a library's computation


class Stopped(SystemExit):
    """The process was told to stop by SIGTERM, as clusters do before they take a machine back.

    Like ``KeyboardInterrupt``, it is not an error. Its text says how far the run has got.
    """


def _stop(number: int, _) -> None:
    look_later(number)
    raise Stopped("stopped as requested (SIGTERM); the same command continues with what is not finished")


@contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """A context in which SIGTERM raises ``Stopped``, as Ctrl-C raises ``KeyboardInterrupt``."""
    with _handlers({signal.SIGTERM: _stop}):
        yield


@contextmanager
def deferred() -> Iterator[Callable[[], int]]:
    """A context that defers signals; it gives a function that returns the signal received so far, or 0.

    A second signal acts at once. Signals are deferred because an exception in the middle of a save, or of a
    write that a thread waits for, can make a library hang.
    """
    received = [0]
    interrupt = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    at_once = {signal.SIGINT: interrupt, signal.SIGTERM: _stop}

    def note(number: int, _) -> None:
        received[0] = number
        for other, handler in at_once.items():
            signal.signal(other, handler)

    with _handlers(dict.fromkeys(at_once, note)), _answered():
        yield lambda: received[0]
    if received[0]:  # possibly after the block has last looked
        signal.raise_signal(received[0])


@contextmanager
def _handlers(handlers: Mapping[signal.Signals, Callable[..., Any]]) -> Iterator[None]:
    """A context with these signal handlers; it does nothing outside the main thread, which alone can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _answered() -> Iterator[None]:
    """A context in which a command answers a signal at once, and ends at a second Ctrl-C.

    Python's handlers wait for whatever a library computes, and compiling a step can take minutes.
    """
    if not is_aloud() or threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before, over = signal.set_wakeup_fd(writer), threading.Event()
    watch = threading.Thread(target=_answer, args=(reader, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        over.set()
        os.close(writer)
        watch.join()
        os.close(reader)


def _answer(reader: int, over: threading.Event) -> None:
    """Answers the signals whose numbers come through a pipe, until it is closed."""
    asked = False
    while number := os.read(reader, 1):
        if number[0] not in (signal.SIGINT, signal.SIGTERM):
            continue
        if not asked:
            say("stopping after this step; a second Ctrl-C stops at once")
        elif number[0] == signal.SIGINT and not over.wait(GRACE):
            say("interrupted; the same command resumes from the last checkpoint")
            os._exit(STATUS)
        asked = True
