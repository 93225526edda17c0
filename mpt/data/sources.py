"""Where records come from: files, packaged data, and TensorFlow Datasets."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mpt.assets import asset_dir
from mpt.errors import UserError

SPLITS = ("train", "validation", "test")

# UTF-8, and without the byte-order mark that spreadsheets put in front of it.
ENCODING = "utf-8-sig"


class Record(NamedTuple):
    """One row of a source, and where it stands, for error messages."""

    where: str
    columns: Mapping[str, Any]


@runtime_checkable
class Source(Protocol):
    """Anything that gives the records of a split."""

    def load(self, split: str) -> Sequence[Record]: ...


@dataclass(frozen=True)
class Files:
    """JSONL, CSV or TSV files: one per split, or one file that is split by a hash of its rows.

    Attributes:
        paths: split -> file; the key "all" stands for one file to be split.
        label: the column that the split must not depend on.
    """

    paths: Mapping[str, Path]
    label: str = "label"

    def load(self, split: str) -> list[Record]:
        if split in self.paths:
            return list(read_file(self.paths[split]))
        if "all" not in self.paths:
            have = ", ".join(self.paths)
            raise UserError(f"the task's source names no {split} file; it has {have}: add '{split}: FILE'")
        return split_by_hash(read_file(self.paths["all"]), split, self.label)

    def __str__(self) -> str:
        return ", ".join(str(path) for path in self.paths.values())


@dataclass(frozen=True)
class Packaged:
    """Data that a pinned Python package carries.

    Attributes:
        package: a name in ``mpt.assets.ASSETS``.
        read: reads the records out of the asset's folder.
        label: the column that the split must not depend on.
        group: the column whose rows must stay together; every row by itself where empty.
    """

    package: str
    read: Callable[[Path], Iterable[Record]]
    label: str = "label"
    group: str = ""

    def load(self, split: str) -> list[Record]:
        return split_by_hash(self.read(asset_dir(self.package)), split, self.label, self.group)

    def __str__(self) -> str:
        return f"package {self.package}"


@dataclass(frozen=True)
class Tfds:
    """A data set of TensorFlow Datasets, read by random access, without TensorFlow.

    Attributes:
        name: the builder and its config, such as "glue/sst2".
        splits: our split -> the data set's split expression.
    """

    name: str
    splits: Mapping[str, str]

    def load(self, split: str) -> Sequence[Record]:
        import tensorflow_datasets as tfds

        if split not in self.splits:
            raise UserError(f"{self} has no {split} split; it has {', '.join(self.splits)}")
        try:
            rows = tfds.data_source(self.name, split=self.splits[split])
        except (tfds.core.DatasetNotFoundError, OSError, ValueError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"cannot load {self} ({split}): {reason}") from error
        return [Record(f"{self} {split} row {i}", decoded(row)) for i, row in enumerate(rows)]

    def __str__(self) -> str:
        return f"TFDS {self.name}"


def decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    """A TFDS row with its bytes as text and its NumPy scalars as Python's."""
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in plain.items()}


def split_by_hash(records: Iterable[Record], split: str, label: str, group: str = "") -> list[Record]:
    """The rows of one split: 70 % train, 10 % validation, 20 % test, without duplicates.

    A row's place depends on nothing but its text, so it stays when rows are added or moved, and the
    same text is never in two splits.

    Args:
        label: the column left out of the hash.
        group: hash this column alone, so that rows sharing it stay together.
    """
    found, seen = [], set()
    for record in records:
        text = {name: value for name, value in record.columns.items() if name != label}
        digest = _digest(text)
        if digest not in seen:
            seen.add(digest)
            share = _digest(record.columns[group]) if group else digest
            tenth = int.from_bytes(share[:4]) % 10
            place = "train" if tenth < 7 else "validation" if tenth < 8 else "test"
            if place == split:
                found.append(record)
    return found


def _digest(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()


def read_file(path: Path) -> Iterator[Record]:
    """The rows of a JSONL, CSV or TSV file, told apart by the file's ending.

    Raises:
        UserError: the file is missing, of another kind, not UTF-8, or a line is malformed.
    """
    readers = {".jsonl": _read_jsonl, ".csv": _read_table, ".tsv": _read_table}
    if path.suffix not in readers:
        raise UserError(f"{path}: cannot read '{path.suffix}' files; give .jsonl, .csv or .tsv")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        yield from readers[path.suffix](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _read_jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding=ENCODING) as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.rstrip("\r\n"))
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: not JSON: {error.msg} (column {error.colno})") from None
            if not isinstance(row, dict):
                raise UserError(f"{where}: a {type(row).__name__}; each line must be an object, {{...}}")
            yield Record(where, row)


def _read_table(path: Path) -> Iterator[Record]:
    with path.open(encoding=ENCODING, newline="") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        try:
            for row in rows:
                where = f"{path}:{rows.line_num}"
                if None in row or None in row.values():
                    fields = len(rows.fieldnames or ())
                    raise UserError(
                        f"{where}: not {fields} fields, as the header has; quote fields with commas"
                    )
                yield Record(where, row)
        except csv.Error as error:
            start = rows.line_num + 1
            raise UserError(f"{path}:{start}: {error}; look for a quote that is not closed") from None
