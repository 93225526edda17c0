"""Faults that a person can mend: one clear line each, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave. Its text names the place and the remedy."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint of an error about an unknown name: the nearest known one, or all of them.

    >>> nearest("bach_size", ["batch_size", "seed"])
    "did you mean 'batch_size'?"
    >>> nearest("zzz", ["batch_size", "seed"])
    'known: batch_size, seed'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
