"""Files of rows, told apart by their endings, read line by line, here or from a remote store."""

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
from mpt.errors import first_line, install
from mpt.system.paths import is_remote

# UTF-8, and without the byte-order mark that spreadsheets put in front of it.
ENCODING = "utf-8-sig"

# Characters of one cell. A quote that nothing closes would otherwise take in the rest of the file.
LONGEST_CELL = 10**8

# NUL, and what stands for a byte that is no UTF-8.
UNREADABLE = re.compile("[\0\udc80-\udcff]")


def read_file(path: str | Path) -> Iterator[Record | Fault]:
    """The rows of a JSONL, CSV, TSV or Parquet file, one after another; a fault where one cannot be read.

    Only the row at hand is in memory; of a Parquet file, the row group.

    Args:
        path: a local path, or a URL that fsspec knows. ``.gz`` behind the ending means compressed.
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
        yield Fault("unreadable file", name, f"cannot be read: {error.strerror or error}")


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
    except Exception as error:  # each store's client raises kinds of its own
        raise Fault("unreadable file", path, f"cannot be opened: {first_line(error)}") from None


def _lines(path: str, file: IOBase, newline: str | None) -> Iterator[str]:
    """A file's lines; bytes that are no UTF-8 come as lone surrogates, for ``_unreadable`` to find."""
    whole: Any = gzip.GzipFile(fileobj=file) if path.lower().endswith(".gz") else file
    number = 0
    try:
        with TextIOWrapper(whole, ENCODING, errors="surrogateescape", newline=newline) as text:
            for line in text:
                number += 1
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = f"not whole gzip data ({error}); compress it again"
        raise Fault("unreadable file", f"{path}:{number + 1}", reason) from None


def _unreadable(where: str, text: str) -> Fault | None:
    found = UNREADABLE.search(text)
    if not found:
        return None
    if found[0] == "\0":
        return Fault("not UTF-8", where, "a NUL character; save it as UTF-8")
    return Fault("not UTF-8", where, f"not UTF-8 (byte 0x{ord(found[0]) & 0xFF:02x}); save it as UTF-8")


def _read_jsonl(path: str, file: IOBase) -> Iterator[Record | Fault]:
    for number, line in enumerate(_lines(path, file, newline=None), start=1):
        if line.strip():
            where = f"{path}:{number}"
            yield _unreadable(where, line) or parse_line(where, line.rstrip("\n"))


def parse_line(where: str, line: str) -> Record | Fault:
    """A line of JSON that must be an object."""
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
    """Rows under a header line; a quoted cell may hold line ends."""
    header = None
    for where, cells in _table_rows(path, file, delimiter):
        if isinstance(cells, Fault):
            yield cells
            if header is None:
                return  # what is below means nothing
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
    """Each row that is not blank, with the line that it starts on."""
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
