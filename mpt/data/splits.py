"""Splits a data set into train, validation and test by a hash of each row's text, in little memory."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mpt.data.records import Fault, Record

SPLITS = ("train", "validation", "test")


class Columns(NamedTuple):
    """The columns that determine the splits of a table's rows: those that a task uses.

    Attributes:
        read: a row whose texts in these are those of an earlier row is left out; if empty, all but the label.
        shared: rows with equal values in these share their split; if empty, those that are read. Templates
            that read different columns have these in common, so that no row moves from one to the next.
    """

    read: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


ALL = Columns()


class Seen:
    """The texts seen so far, each with a note, in a table on disk that is keyed by 64 bits of their digests.

    Among ten million texts, the chance that any two have the same key is 3 in a million.
    """

    def __init__(self):
        # An empty name makes a temporary database, which is deleted when the connection is closed.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;"  # KiB
            "CREATE TABLE seen (digest INTEGER PRIMARY KEY, note TEXT); BEGIN;"
        )

    def earlier(self, digest: bytes, note: str = "") -> str | None:
        """The note of a text that was seen before; None if it is new, and then it is added with ``note``."""
        key = int.from_bytes(digest[:8], signed=True)
        new = self._table.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, note)).rowcount
        if new:
            return None
        return self._table.execute("SELECT note FROM seen WHERE digest = ?", (key,)).fetchone()[0]

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()


def split_by_hash(
    rows: Iterable[Record | Fault], split: str, label: str, group: str = "", columns: Columns = ALL
) -> Iterator[Record | Fault]:
    """Yields the rows of one split, without duplicates, and all faults; see ``splits_by_hash``."""
    for assigned, row in splits_by_hash(rows, label, group, columns):
        if assigned == split or isinstance(row, Fault):
            yield row


def splits_by_hash(
    rows: Iterable[Record | Fault], label: str, group: str = "", columns: Columns = ALL
) -> Iterator[tuple[str | None, Record | Fault]]:
    """Yields each row with its split: 70 % train, 10 % validation, 20 % test; None for duplicates and faults.

    The split of a row depends only on its text, so it stays the same when rows are added or moved, and the
    same text is never in two splits.

    Args:
        label: the column that is left out of the hash.
        group: if given, only this column is hashed, so that rows which share its value share their split.
        columns: those that a task reads; a number or a date in another does not make a text a new one.

    >>> rows = [Record(str(i), {"text": text, "label": i}) for i, text in enumerate(["so", "we", "so"])]
    >>> [split for split, _ in splits_by_hash(rows, "label")]
    ['train', 'validation', None]
    """
    with Seen() as seen:
        for row in rows:
            if isinstance(row, Fault):
                yield None, row
                continue
            given, (read, shared) = row.columns, columns
            text = _of(given, read) if read else {name: given[name] for name in given if name != label}
            same = {name: str(value).strip() for name, value in text.items()} if read else text
            if seen.earlier(digest_of(same)) is not None:
                yield None, row
                continue
            key = digest_of(given.get(group) if group else _of(given, shared) if shared else text)
            tenth = int.from_bytes(key[:4]) % 10
            yield SPLITS[(tenth >= 7) + (tenth >= 8)], row


def _of(columns: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: columns[name] for name in names if name in columns}


def digest_of(value: Any) -> bytes:
    """SHA-256 of a value, written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()
