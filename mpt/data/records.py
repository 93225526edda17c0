"""A record is one row of a data source; a fault says why a row cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mpt.errors import UserError

LONE, HALF = re.compile("[\ud800-\udfff]"), "half a surrogate pair (\\ud800 to \\udfff) is not a character"
MISSING = "missing column"  # how the kind of such a fault begins


class Record(NamedTuple):
    """One row of a source; ``where`` names its file and line in error messages."""

    where: str
    columns: Mapping[str, Any]


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, or what tables have in its place, such as NaN, NaT and <NA>.

    >>> [is_missing(value) for value in (None, float("nan"), "nan", 0)]
    [True, True, False, False]
    """
    return not isinstance(value, str) and str(value).casefold() in ("none", "nan", "nat", "<na>")


def has_half_a_character(text: str) -> bool:
    """Whether a text cannot be written as UTF-8, nor read by a tokenizer; see ``HALF``."""
    return bool(LONE.search(text))


class Blank(NamedTuple):
    """A line or row with nothing in it; ``where`` names its file and line."""

    where: str


class Fault(UserError):
    """The reason why a row, or a whole file, cannot be used.

    Readers yield a fault instead of the record and continue: training raises the first fault, `mpt tasks
    check` collects them all.

    Attributes:
        kind: a short name for faults of the same kind, by which they are counted.
        where: the file and line, or the file.
        reason: what is wrong there.
    """

    def __init__(self, kind: str, where: str, reason: str):
        super().__init__(f"{where}: {reason}")
        self.kind, self.where, self.reason = kind, where, reason
