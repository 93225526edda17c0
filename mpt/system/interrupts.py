"""Ctrl-C ends a command quietly, whatever it does. This is imported first, so it imports next to nothing."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

STATUS = 130  # of whatever Ctrl-C ends


def quiet_on_interrupt() -> None:
    """From now on Ctrl-C never ends in a traceback."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as after nohup
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable


def end_on_interrupt() -> None:
    """From now on Ctrl-C ends such a process at once: all is done that could be lost."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, _end)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Amid an import nothing is being written, and many a library swallows an exception there, or aborts.
    while frame:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Ends the process where Ctrl-C came in a destructor or the like, which would swallow it."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(unraisable)


def _end(*_: object) -> None:
    os._exit(STATUS)
