"""Ctrl-C ends a command quietly, whatever it does. This is imported first, so it imports next to nothing."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

STATUS = 130  # of whatever Ctrl-C ends
LOOK_EVERY = 1.0  # seconds from a signal until its exception must be unwinding the program

_raised = [signal.SIGINT]  # the signal that is looked after


def quiet_on_interrupt() -> None:
    """From now on Ctrl-C never ends in a traceback."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as after nohup
        signal.signal(signal.SIGINT, _interrupt)
        if hasattr(signal, "setitimer"):  # not on Windows
            signal.signal(signal.SIGALRM, _look_again)
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
    look_later(number)
    raise KeyboardInterrupt


def look_later(number: int) -> None:
    """Raises a signal again in a second, and again, until what its handler raises unwinds the program.

    A library in C++ drops what is raised while it compares keys: JAX does so where it looks a program up.
    Only a command does, whose alarm is its own.
    """
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _look_again:
        _raised[0] = signal.Signals(number)
        signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY)


def _look_again(*_: object) -> None:
    number, error = _raised[0], sys.exc_info()[1]
    while error and not isinstance(error, KeyboardInterrupt | SystemExit):
        error = error.__context__
    if error:  # files are being closed, and the like
        look_later(number)
    elif callable(signal.getsignal(number)):  # else its handler is gone: what it raised has arrived
        signal.raise_signal(number)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Ends the process where Ctrl-C came in a destructor or the like, which would swallow it."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(unraisable)


def _end(*_: object) -> None:
    os._exit(STATUS)
