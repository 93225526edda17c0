"""Reads JSONL, CSV, TSV and Parquet files row by row, from disk or from a remote store."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import IOBase, TextIOWrapper
from pathlib import Path
from typing import Any

import fsspec

from mpt.data.arrow import header_faults, read_parquet
from mpt.data.records import Fault, Record
from mpt.errors import first_line, install, one_line
from mpt.system.paths import is_remote

# UTF-8; a byte-order mark at the start, as spreadsheets write it, is dropped.
ENCODING = "utf-8-sig"

# Maximum number of characters in a cell: an unclosed quote would otherwise swallow the rest of the file.
LONGEST_CELL = 10**8

# NUL, and the lone surrogates that stand for bytes that are not UTF-8.
UNREADABLE = re.compile("[\0\udc80-\udcff]")


def read_file(path: str | Path) -> Iterator[Record | Fault]:
    """Yields the rows of a JSONL, CSV, TSV or Parquet file, and a fault for each that cannot be read.

    Only one row is in memory at a time; for a Parquet file, one row group.

    Args:
        path: a local path, or a URL that fsspec supports. A name that ends in ``.gz`` is decompressed.
    """
    name = str(path)
    try:
        reader = _reader(name)
        with _opened(name) as file:
            yield from reader(name, file)
    except Fault as fault:
        yield fault
    except FileNotFoundError:
        yield Fault("unreadable file", name, "no such file")
    except OSError as error:
        yield Fault("unreadable file", name, f"cannot be read: {error.strerror or one_line(error)}")


def _reader(path: str) -> Reader:
    if not is_remote(path) and Path(path).is_dir():
        raise Fault("unreadable file", path, "a folder; give a file in it")
    ending = re.search(r"(\.\w+)?(\.gz)?$", path.lower())
    plain, zipped = ending.groups() if ending else (None, None)
    if plain == ".json":
        raise Fault("unreadable file", path, "make it JSONL: a .jsonl file with one object a line")
    if plain not in READERS or (zipped and plain == ".parquet"):
        shown = (plain or "") + (zipped or "")
        raise Fault(
            "unreadable file", path, f"cannot read '{shown}' files; give .jsonl, .csv, .tsv or .parquet"
        )
    return READERS[plain]


def _opened(path: str) -> IOBase:
    if not is_remote(path):
        return open(path, "rb")
    try:
        store, inner = fsspec.url_to_fs(path)
        return store.open(inner, "rb")
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise Fault("unreadable file", path, f"{error}: {install('gcs,s3')}") from None
    except Exception as error:  # each store's client raises its own types
        raise Fault("unreadable file", path, f"cannot be opened: {first_line(error)}") from None


def _lines(path: str, file: IOBase, newline: str | None) -> Iterator[str]:
    """Yields a file's lines, with lone surrogates for bytes that are not UTF-8; see ``_unreadable``."""
    stream: Any = gzip.GzipFile(fileobj=file) if path.lower().endswith(".gz") else file
    number = 0
    try:
        with TextIOWrapper(stream, ENCODING, errors="surrogateescape", newline=newline) as text:
            for line in text:
                number += 1
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = f"not whole gzip data ({error}); compress it again"
        raise Fault("unreadable file", f"{path}:{number + 1}", reason) from None


def _unreadable(where: str, text: str) -> Fault | None:
    match = UNREADABLE.search(text)
    if not match:
        return None
    if match[0] == "\0":
        return Fault("not UTF-8", where, "a NUL character; save it as UTF-8")
    return Fault("not UTF-8", where, f"not UTF-8 (byte 0x{ord(match[0]) & 0xFF:02x}); save it as UTF-8")


def _read_jsonl(path: str, file: IOBase) -> Iterator[Record | Fault]:
    for number, line in enumerate(_lines(path, file, newline=None), start=1):
        if line.strip():
            where = f"{path}:{number}"
            yield _unreadable(where, line) or parse_line(where, line.rstrip("\n"))


def parse_line(where: str, line: str) -> Record | Fault:
    """Parses a line of JSON, which must be an object."""
    try:
        row = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        return Fault("not JSON", where, f"not JSON: {error.msg} (column {error.colno})")
    except UnicodeEncodeError:
        return Fault("not JSON", where, "half a surrogate pair (\\ud800 to \\udfff) is no character")
    except (ValueError, RecursionError) as error:
        return Fault("not JSON", where, f"not JSON: {error}")
    if not isinstance(row, dict):
        reason = f"a {type(row).__name__}; each line must be an object, {{...}}"
        return Fault("not an object", where, reason)
    return Record(where, row)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice}' comes twice")
    return row


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number; write null or a text")


def _read_table(path: str, file: IOBase, delimiter: str) -> Iterator[Record | Fault]:
    """Yields the rows below a header line; a quoted cell may contain line breaks."""
    header = None
    for where, cells in _table_rows(path, file, delimiter):
        if isinstance(cells, Fault):
            yield cells
            if header is None:
                return  # without a header, the rows below have no meaning
        elif header is None:
            header = cells
            yield from header_faults(where, header)
        elif len(cells) != len(header):
            mark = "tabs" if delimiter == "\t" else "commas"
            reason = f"not {len(header)} fields, as the header has; quote fields with {mark}"
            yield Fault("wrong number of fields", where, reason)
        else:
            yield Record(where, dict(zip(header, cells)))


def _table_rows(path: str, file: IOBase, delimiter: str) -> Iterator[tuple[str, list[str] | Fault]]:
    """Yields each row that is not blank, with the file and line at which it starts."""
    csv.field_size_limit(max(LONGEST_CELL, csv.field_size_limit()))
    rows = csv.reader(_lines(path, file, newline=""), delimiter=delimiter, strict=True)
    while True:
        where = f"{path}:{rows.line_num + 1}"
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield where, Fault("faulty quotes", where, f"{error}; look for a quote that is not closed")
            continue
        if cells is None:
            return
        if cells:
            yield where, _unreadable(where, "".join(cells)) or cells


Reader = Callable[[str, IOBase], Iterator[Record | Fault]]
READERS: dict[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".csv": partial(_read_table, delimiter=","),
    ".tsv": partial(_read_table, delimiter="\t"),
    ".parquet": read_parquet,
}
