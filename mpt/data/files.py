"""Reads JSONL, CSV, TSV and Parquet files row by row, from disk or from a remote store."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import IOBase, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from mpt.data.arrow import header_faults, read_parquet
from mpt.data.records import HALF, Blank, Fault, Record
from mpt.errors import first_line, one_line
from mpt.system.paths import is_remote, lacking

T = TypeVar("T")

# UTF-8; a byte-order mark at the start, as spreadsheets write it, is dropped.
ENCODING = "utf-8-sig"

# Maximum number of characters in a cell: an unclosed quote would otherwise swallow the rest of the file.
LONGEST_CELL = 10**8

# A cell of a tab-separated line: quoted as a whole, or up to the next tab.
CELL = re.compile(r'(?:^|\t)("[^"]*(?:""[^"]*)*"(?=\t|\Z)|[^\t]*)')
QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')

# NUL, and the lone surrogates that stand for bytes that are not UTF-8.
UNREADABLE = re.compile("[\0\udc80-\udcff]")


def read_file(path: str | Path) -> Iterator[Record | Fault]:
    """Yields the rows of a JSONL, CSV, TSV or Parquet file, and a fault for each that cannot be read.

    Only one row is in memory at a time; for a Parquet file, one row group.

    Args:
        path: a local path, or a URL that fsspec supports. A name that ends in ``.gz`` is decompressed.
    """
    return (row for row in read_rows(path) if not isinstance(row, Blank))


def read_rows(path: str | Path) -> Iterator[Record | Fault | Blank]:
    """Yields what ``read_file`` does, and a ``Blank`` for each blank line between rows."""
    name = str(path)
    return _read(name, lambda file: _reader(name)(name, file))


def read_lines(path: str | Path) -> Iterator[Line | Fault]:
    """Yields a text file's numbered lines, or a fault where it cannot be read."""
    name = str(path)
    return _read(name, lambda file: numbered(name, _lines(name, file, newline=None)))


def _read(name: str, read: Callable[[IOBase], Iterator[T]]) -> Iterator[T | Fault]:
    try:
        with _opened(name) as file:
            yield from read(file)
    except Fault as fault:
        yield fault
    except FileNotFoundError:
        yield Fault("unreadable file", name, "no such file")
    except OSError as error:
        yield Fault("unreadable file", name, f"cannot be read: {error.strerror or one_line(error)}")


def is_table(path: str | Path) -> bool:
    """Whether a file contains rows with named columns, by its name, and not lines of text.

    >>> is_table("rows.csv.gz"), is_table("rows.txt")
    (True, False)
    """
    return _ending(str(path))[0] in (*READERS, ".json")


def has_header(path: str | Path) -> bool:
    """Whether a file names its columns once for all rows."""
    return is_table(path) and _ending(str(path))[0] not in (".jsonl", ".json")


def _ending(path: str) -> tuple[str | None, str | None]:
    """The ending of a file's name, and that of its compression."""
    match = re.search(r"(\.\w+)?(\.gz)?$", path.lower())
    return (match[1], match[2]) if match else (None, None)


def _reader(path: str) -> Reader:
    plain, zipped = _ending(path)
    if plain == ".json":
        raise Fault("unreadable file", path, "make it JSONL: a .jsonl file with one object per line")
    if plain not in READERS or (zipped and plain == ".parquet"):
        shown = (plain or "") + (zipped or "")
        raise Fault(
            "unreadable file", path, f"cannot read '{shown}' files; give .jsonl, .csv, .tsv or .parquet"
        )
    return READERS[plain]


def _opened(path: str) -> IOBase:
    if not is_remote(path):
        if Path(path).is_dir():
            raise Fault("unreadable file", path, "a folder; give a file in it")
        return open(path, "rb")
    if why := lacking(path):
        raise Fault("unreadable file", path, why)
    try:
        store, inner = fsspec.url_to_fs(path)
        return store.open(inner, "rb")
    except FileNotFoundError:
        raise
    except Exception as error:  # each store's client raises its own types
        raise Fault("unreadable file", path, f"cannot be opened: {first_line(error)}") from None


def _lines(path: str, file: IOBase, newline: str | None) -> Iterator[str]:
    """Yields a file's lines, with lone surrogates for bytes that are not UTF-8; see ``unreadable``."""
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


def numbered(name: str, lines: Iterable[str]) -> Iterator[Line]:
    """Yields each line's file and number, and the line without its end or a byte-order mark."""
    for number, line in enumerate(lines, start=1):
        yield f"{name}:{number}", (line.removeprefix("\ufeff") if number == 1 else line).rstrip("\r\n")


def unreadable(where: str, text: str) -> Fault | None:
    """The fault of a text with NUL, or with bytes that are not UTF-8 and were read as lone surrogates."""
    match = UNREADABLE.search(text)
    if not match:
        return None
    if match[0] == "\0":
        return Fault("not UTF-8", where, "a NUL character; save it as UTF-8")
    return Fault("not UTF-8", where, f"not UTF-8 (byte 0x{ord(match[0]) & 0xFF:02x}); save it as UTF-8")


def _read_jsonl(path: str, file: IOBase) -> Iterator[Record | Fault | Blank]:
    for where, line in numbered(path, _lines(path, file, newline=None)):
        yield unreadable(where, line) or parse_line(where, line) if line.strip() else Blank(where)


def parse_line(where: str, line: str) -> Record | Fault:
    """Parses a line of JSON, or another text of JSON, which must be an object."""
    try:
        row = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        return Fault("not JSON", where, f"not JSON: {error.msg} (column {error.colno})")
    except UnicodeEncodeError:
        return Fault("not JSON", where, HALF)
    except (ValueError, RecursionError) as error:
        return Fault("not JSON", where, f"not JSON: {error}")
    if not isinstance(row, dict):
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
        reason = f"{kind.get(type(row), 'a number')}; it must be an object, {{...}}"
        return Fault("not an object", where, reason)
    return Record(where, row)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key '{twice}' occurs twice")
    return row


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number; write null or a text")


def _read_csv(path: str, file: IOBase) -> Iterator[Record | Fault | Blank]:
    return _table(_quoted_rows(path, _lines(path, file, newline=""), ","), "quote fields with commas")


def _read_tsv(path: str, file: IOBase) -> Iterator[Record | Fault | Blank]:
    """Reads tab-separated lines; quotes are ordinary characters there, unless the header is quoted."""
    lines = _lines(path, file, newline="")
    first = next(lines, "")
    is_quoted, lines = first.startswith('"'), chain([first] if first else [], lines)
    rows = _quoted_rows(path, lines, "\t") if is_quoted else _tabbed_rows(path, lines)
    return _table(rows, "quote fields with tabs, and give texts with line ends in a .csv or .jsonl file")


def _table(rows: Iterator[tuple[str, Cells | Fault]], remedy: str) -> Iterator[Record | Fault | Blank]:
    """Yields the rows below a header line."""
    header = None
    for where, cells in rows:
        if isinstance(cells, Fault):
            if header is None:  # and without one, the rows below have no meaning
                yield Fault("faulty header", where, cells.reason)
                return
            yield cells
        elif not cells:
            if header is not None:
                yield Blank(where)
        elif header is None:
            header = cells
            yield from header_faults(where, header)
        elif len(cells) != len(header):
            reason = f"not {len(header)} fields like the header; {remedy}"
            yield Fault("wrong number of fields", where, reason)
        else:
            yield Record(where, dict(zip(header, cells)))


def _tabbed_rows(path: str, lines: Iterator[str]) -> Iterator[tuple[str, Cells | Fault]]:
    """Yields each line's cells, none for a blank line; a quote is an ordinary character.

    Spreadsheets quote some cells as a whole: these lose their quotes, and may hold tabs.
    """
    width = 0
    for where, line in numbered(path, lines):
        cells = line.split("\t") if line else []
        if width and len(cells) > width:
            cells = CELL.findall(line)
        width = width or len(cells)
        yield where, unreadable(where, line) or [_unquoted(cell) for cell in cells]


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if QUOTED.fullmatch(cell) else cell


def _quoted_rows(path: str, lines: Iterator[str], delimiter: str) -> Iterator[tuple[str, Cells | Fault]]:
    """Yields each row's cells, none for a blank line, with the file and line at which it starts."""
    csv.field_size_limit(max(LONGEST_CELL, csv.field_size_limit()))
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        where = f"{path}:{rows.line_num + 1}"
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield where, Fault("faulty quotes", where, f"{error}; look for a quote that is not closed")
            continue
        if cells is None:
            return
        yield where, unreadable(where, "".join(cells)) or cells


Cells = list[str]
Line = tuple[str, str]  # its file and number, and its text
Reader = Callable[[str, IOBase], Iterator[Record | Fault | Blank]]
READERS: dict[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": read_parquet,
}
