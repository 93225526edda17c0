"""What a command says of its progress, so that nothing that takes long is silent."""

from __future__ import annotations

import os
import time

from mpt.errors import tell
from mpt.system.launch import PROCESS

LINE_EVERY = 15.0  # seconds between lines about one thing

_aloud, _last = False, 0.0


def speak(aloud: bool = True) -> None:
    """Has ``say`` print from now on: for a command of its own; what Python calls stays silent."""
    global _aloud
    _aloud = aloud and os.environ.get(PROCESS, "0") == "0"


def is_aloud() -> bool:
    """Whether ``say`` prints."""
    return _aloud


def say(text: str, every: float = 0.0) -> None:
    """Prints a line on standard error, where a command is being run: what it does next.

    Args:
        every: seconds that must have passed since the last line.
    """
    global _last
    now = time.monotonic()
    if _aloud and now - _last >= every:
        _last = now
        tell(text)
