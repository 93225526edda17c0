"""Arrow's tables as plain rows, and the Parquet files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import IOBase
from itertools import chain
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from mpt.data.records import Fault, Record
from mpt.errors import first_line

ROWS = 1024  # that are held as Python's objects at once


def read_parquet(path: str, file: IOBase) -> Iterator[Record | Fault]:
    """The rows of a Parquet file, one row group after another."""
    try:
        whole = parquet.ParquetFile(file)
        yield from header_faults(path, whole.schema_arrow.names)
        # A group at a time: all at once, they would be read ahead.
        groups = (whole.iter_batches(ROWS, row_groups=[i]) for i in range(whole.num_row_groups))
        yield from arrow_records(path, chain.from_iterable(groups))
    except pa.ArrowException as error:
        raise Fault("unreadable file", path, f"not a whole Parquet file: {first_line(error)}") from None


def header_faults(where: str, names: list[str]) -> Iterator[Fault]:
    """What is wrong with a table's column names."""
    for place, name in enumerate(names):
        if not name.strip():
            reason = f"column {place + 1} has no name; name it, or leave it out"
            yield Fault("faulty header", where, reason)
        elif name in names[:place]:
            yield Fault("faulty header", where, f"two columns are named '{name}'; rename one")


def arrow_records(name: str, tables: Iterable[Any]) -> Iterator[Record | Fault]:
    """The rows of tables that follow each other."""
    start = 0
    for table in tables:
        try:
            found = table.to_pylist()
        except UnicodeDecodeError:  # in one of the rows
            found = [_row(table.slice(i, 1)) for i in range(table.num_rows)]
        for number, row in enumerate(found, start):
            where = f"{name} row {number}"
            yield Record(where, row) if row else Fault("not UTF-8", where, "a text that is not UTF-8")
        start += len(found)


def _row(table: Any) -> dict[str, Any]:
    """A table's only row; nothing where its text is no text."""
    try:
        return table.to_pylist()[0]
    except UnicodeDecodeError:
        return {}
