"""A row of data: a record, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mpt.errors import UserError


class Record(NamedTuple):
    """One row of a source, and where it stands, for error messages."""

    where: str
    columns: Mapping[str, Any]


class Fault(UserError):
    """What keeps a row, or a whole file, from being used.

    Readers yield it in the record's place and go on: who trains raises the first one, who checks
    collects them all.

    Attributes:
        kind: what faults alike share, in a few words.
    """

    def __init__(self, kind: str, where: str, reason: str):
        super().__init__(f"{where}: {reason}")
        self.kind = kind
