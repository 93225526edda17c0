"""One whole becomes three splits, by a hash of each row's text, in little memory."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from mpt.data.records import Fault, Record

SPLITS = ("train", "validation", "test")


class Seen:
    """The texts met so far, by 64 bits of their digests: a table that grows on disk, not in memory.

    Two texts of ten million have the same digest with a chance of 3 in a million.
    """

    def __init__(self):
        # SQLite's own temporary file; it is gone when the connection is closed.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;"  # KiB
            "CREATE TABLE seen (digest INTEGER PRIMARY KEY, split TEXT); BEGIN;"
        )

    def first(self, digest: bytes, split: str = "") -> str | None:
        """The split in which the text was met before; None for a new one, which is kept."""
        key = int.from_bytes(digest[:8], signed=True)
        new = self._table.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, split)).rowcount
        if new:
            return None
        return self._table.execute("SELECT split FROM seen WHERE digest = ?", (key,)).fetchone()[0]

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()


def split_by_hash(
    rows: Iterable[Record | Fault], split: str, label: str, group: str = ""
) -> Iterator[Record | Fault]:
    """The rows of one split, without duplicates, and every fault; see ``splits_by_hash``."""
    for place, row in splits_by_hash(rows, label, group):
        if place == split or isinstance(row, Fault):
            yield row


def splits_by_hash(
    rows: Iterable[Record | Fault], label: str, group: str = ""
) -> Iterator[tuple[str | None, Record | Fault]]:
    """Each row with its split: 70 % train, 10 % validation, 20 % test; None for duplicates and faults.

    A row's place depends on nothing but its text, so it stays when rows are added or moved, and the
    same text is never in two splits.

    Args:
        label: the column left out of the hash.
        group: hash this column alone, so that rows sharing it stay together.

    >>> rows = [Record(str(i), {"text": text, "label": i}) for i, text in enumerate(["so", "we", "so"])]
    >>> [split for split, _ in splits_by_hash(rows, "label")]
    ['train', 'validation', None]
    """
    with Seen() as seen:
        for row in rows:
            if isinstance(row, Fault):
                yield None, row
                continue
            text = {name: value for name, value in row.columns.items() if name != label}
            digest = digest_of(text)
            if seen.first(digest) is not None:
                yield None, row
                continue
            share = digest_of(row.columns[group]) if group else digest
            tenth = int.from_bytes(share[:4]) % 10
            yield SPLITS[(tenth >= 7) + (tenth >= 8)], row


def digest_of(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()
