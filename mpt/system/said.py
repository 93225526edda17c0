"""What a command says of its progress, so that nothing that takes long is silent."""

from __future__ import annotations

import os
import sys

from mpt.system.launch import PROCESS

_aloud = False


def speak(aloud: bool = True) -> None:
    """Has ``say`` print from now on: for a command of its own; what Python calls stays silent."""
    global _aloud
    _aloud = aloud and os.environ.get(PROCESS, "0") == "0"


def say(text: str) -> None:
    """Prints a line on standard error, where a command is being run: what it does next."""
    if _aloud:
        print(f"mpt: {text}", file=sys.stderr, flush=True)
