"""Reads Arrow tables, and the Parquet files that hold them, as records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import IOBase
from itertools import chain
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from mpt.data.records import Fault, Record
from mpt.errors import first_line

ROWS = 1024  # converted to Python objects at a time


def read_parquet(path: str, file: IOBase) -> Iterator[Record | Fault]:
    """Yields the rows of a Parquet file, one row group after another."""
    try:
        table_file = parquet.ParquetFile(file)
        yield from header_faults(path, table_file.schema_arrow.names)
        # One group at a time: given all groups, the reader would read ahead.
        groups = (table_file.iter_batches(ROWS, row_groups=[i]) for i in range(table_file.num_row_groups))
        yield from arrow_records(path, chain.from_iterable(groups))
    except (pa.ArrowException, ValueError, LookupError, OverflowError) as error:
        raise Fault("unreadable file", path, f"not a whole Parquet file: {first_line(error)}") from None


def header_faults(where: str, names: list[str]) -> Iterator[Fault]:
    """Yields a fault for each column name of a table that is empty or appears twice."""
    for index, name in enumerate(names):
        if not name.strip():
            reason = f"column {index + 1} has no name; name it, or leave it out"
            yield Fault("faulty header", where, reason)
        elif name in names[:index]:
            yield Fault("faulty header", where, f"two columns are named '{name}'; rename one")


def arrow_records(name: str, tables: Iterable[Any]) -> Iterator[Record | Fault]:
    """Yields the rows of consecutive tables, or a fault for a row whose text is not valid UTF-8."""
    offset = 0  # rows of the tables before this one
    for table in tables:
        try:
            rows = table.to_pylist()
        except UnicodeDecodeError:  # in one of the rows
            rows = [_row(table.slice(i, 1)) for i in range(table.num_rows)]
        for number, row in enumerate(rows, offset):
            where = f"{name} row {number}"
            yield Record(where, row) if row else Fault("not UTF-8", where, "a text that is not UTF-8")
        offset += len(rows)


def _row(table: Any) -> dict[str, Any]:
    """Returns the only row of a table, or an empty row if a text in it is not valid UTF-8."""
    try:
        return table.to_pylist()[0]
    except UnicodeDecodeError:
        return {}
