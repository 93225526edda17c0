"""Where records come from: files, packaged data, TensorFlow Datasets, and Python's own rows."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpt.data.counts import prepared, tfds_rows
from mpt.data.files import read_file
from mpt.data.records import Fault, Record
from mpt.data.splits import split_by_hash
from mpt.errors import UserError, first_line
from mpt.system.assets import ASSETS, asset_dir, unpacked
from mpt.system.paths import is_remote


class Source(ABC):
    """Anything that gives the records of a split.

    Its parts are splits, or one part "all": a whole that is split by a hash of each row's text.

    Attributes:
        label: the column that the split must not depend on.
        group: the column whose rows must stay together; every row by itself where empty.
    """

    label: str = "label"
    group: str = ""

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """The names that ``rows`` knows."""

    @abstractmethod
    def rows(self, part: str) -> Iterator[Record | Fault]:
        """The rows of a part, one after another; a fault for each that cannot be read."""

    def version(self, split: str) -> str | None:
        """What is another whenever the split's rows may be others; None where that cannot be told."""
        return None

    @property
    def here(self) -> bool:
        """Whether the rows can be read without fetching them."""
        return False

    def count(self, split: str) -> int | None:
        """The rows of a split, told without fetching them; None where that cannot be told."""
        return sum(1 for _ in self.load(split)) if self.here else None

    def _part(self, split: str) -> str:
        """The part that a split is, or is made of.

        Raises:
            UserError: there is no such split.
        """
        part = split if split in self.parts else "all"
        if part not in self.parts:
            have = ", ".join(self.parts)
            raise UserError(f"{self} has no {split} split; it has {have}: name it in the task's source")
        return part

    def load(self, split: str) -> Iterator[Record]:
        """The records of "train", "validation" or "test", one after another.

        Raises:
            UserError: there is no such split, or a row cannot be read.
        """
        part = self._part(split)
        rows = self.rows(part)
        for row in split_by_hash(rows, split, self.label, self.group) if part != split else rows:
            if isinstance(row, Fault):
                raise row
            yield row


@dataclass(frozen=True)
class Files(Source):
    """JSONL, CSV, TSV or Parquet files: one per split, or one file that is split by a hash.

    Attributes:
        paths: split, or "all" -> a local path or a URL.
    """

    paths: Mapping[str, Path | str]
    label: str = "label"

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.paths)

    def rows(self, part: str) -> Iterator[Record | Fault]:
        return read_file(self.paths[part])

    @property
    def here(self) -> bool:
        return not any(map(is_remote, self.paths.values()))

    def version(self, split: str) -> str | None:
        path = self.paths[self._part(split)]
        return None if is_remote(path) else changed(Path(path))

    def __str__(self) -> str:
        return ", ".join(str(path) for path in self.paths.values())


@dataclass(frozen=True)
class Rows(Source):
    """Rows that Python holds or makes.

    Attributes:
        tables: split, or "all" -> the rows, or a function that gives a fresh iterator of them; each row
            is a mapping from its columns' names.
    """

    tables: Mapping[str, Iterable[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]]]
    label: str = "label"
    group: str = ""

    def __post_init__(self):
        for part, table in self.tables.items():
            if isinstance(table, Iterator):
                raise UserError(f"{part} rows: an iterator is read once only; give a list, or a function")

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.tables)

    @property
    def here(self) -> bool:
        return True

    def rows(self, part: str) -> Iterator[Record | Fault]:
        table = self.tables[part]
        for number, row in enumerate(table() if callable(table) else table):
            where = f"{part} row {number}"
            if isinstance(row, Mapping) and all(isinstance(name, str) for name in row):
                yield Record(where, row)
            else:
                yield Fault("not a mapping", where, f"{row!r:.60} is no mapping from columns' names")

    def __str__(self) -> str:
        return "rows given in Python"


@dataclass(frozen=True)
class Packaged(Source):
    """Data that pinned Python packages carry.

    Attributes:
        packages: names in ``mpt.system.assets.ASSETS``.
        read: reads the records out of the folders of these assets.
    """

    packages: tuple[str, ...]
    read: Callable[..., Iterable[Record]]
    label: str = "label"
    group: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        return ("all",)

    def rows(self, part: str) -> Iterator[Record | Fault]:
        yield from self.read(*map(asset_dir, self.packages))

    @property
    def here(self) -> bool:
        return all(map(unpacked, self.packages))

    def version(self, split: str) -> str | None:
        digests = " ".join(ASSETS[name].sha256 for name in self.packages)
        return f"{digests} {self.read.__qualname__} {code_of(self.read)}"

    def __str__(self) -> str:
        return f"package {' and '.join(self.packages)}"


@dataclass(frozen=True)
class Tfds(Source):
    """A data set of TensorFlow Datasets, read by random access, without TensorFlow.

    Attributes:
        name: the builder and its config, such as "glue/sst2".
        splits: our split, or "all" -> the data set's split expression.
        unfold: what a row stands for: one record, several, or none. Each row is a record where left out.
    """

    name: str
    splits: Mapping[str, str]
    unfold: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] | None = None
    label: str = "label"

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.splits)

    def rows(self, part: str) -> Iterator[Record | Fault]:
        import tensorflow_datasets as tfds

        rows = self._rows(part)
        labels = {
            name: feature
            for name, feature in rows.dataset_info.features.items()
            if isinstance(feature, tfds.features.ClassLabel)
        }
        for i, row in enumerate(rows):
            columns = with_label_names(decoded(row), labels)
            for record in self.unfold(columns) if self.unfold else [columns]:
                yield Record(f"{self} {part} row {i}", record)

    def _rows(self, part: str) -> Any:
        import tensorflow_datasets as tfds

        try:
            return tfds.data_source(self.name, split=self.splits[part])
        except ModuleNotFoundError as error:
            missing = str(error).rpartition(": ")[2]
            remedy = "install that package; once the data set is prepared, it is read without"
            raise UserError(f"cannot prepare {self}: {missing}; {remedy}") from error
        except (tfds.core.DatasetNotFoundError, OSError, ValueError, AssertionError) as error:
            raise UserError(f"cannot load {self} ({part}): {first_line(error)}") from error

    @property
    def here(self) -> bool:
        return prepared(self.name) is not None

    def count(self, split: str) -> int | None:
        """The data set's rows; an ``unfold`` may make more or fewer of them."""
        part = self._part(split)
        return tfds_rows(self.name, self.splits[part]) if part == split else super().count(split)

    def version(self, split: str) -> str | None:
        part = self._part(split)
        info = self._rows(part).dataset_info
        written = changed(Path(info.data_dir) / "dataset_info.json")
        return f"{info.full_name} {self.splits[part]} {written} {code_of(self.unfold)}"

    def __str__(self) -> str:
        return f"TFDS {self.name}"


def changed(path: Path) -> str:
    """The state of a file: its place, its size and when it was written."""
    state = path.stat() if path.exists() else None
    return f"{path.absolute()} {state.st_size} {state.st_mtime_ns}" if state else str(path.absolute())


def code_of(function: Callable[..., Any] | None) -> str:
    """A digest of the module that a function comes from."""
    file = inspect.getsourcefile(function) if function else None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def with_label_names(columns: Mapping[str, Any], labels: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its class numbers as names: by name, a label means the same in every version.

    Args:
        labels: column -> its feature, which names the numbers. -1, a hidden label, stays.
    """
    named = {
        name: feature.int2str(columns[name])
        for name, feature in labels.items()
        if columns[name] is not None and columns[name] >= 0
    }
    return {**columns, **named}


def decoded(value: Any) -> Any:
    """A TFDS row with its bytes as text, its arrays as lists and its NumPy scalars as Python's."""
    if isinstance(value, dict):
        return {name: decoded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [decoded(part) for part in value]
    if hasattr(value, "tolist"):
        return decoded(value.tolist())
    return value.decode() if isinstance(value, bytes) else value
