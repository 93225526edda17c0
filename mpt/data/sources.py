"""Sources of records: files, data in Python packages, TensorFlow Datasets, and rows held in Python."""

from __future__ import annotations

import hashlib
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpt.data.counts import prepared, tfds_rows
from mpt.data.files import read_file
from mpt.data.records import Fault, Record
from mpt.data.splits import ALL, Columns, split_by_hash
from mpt.errors import UserError, first_line
from mpt.system.assets import ASSETS, INDEX, asset_dir, unpacked
from mpt.system.network import is_online
from mpt.system.paths import check_store, is_remote
from mpt.tasks import at_hand, without_network


class Source(ABC):
    """A data set that gives the records of the splits "train", "validation" and "test".

    It stores these splits; or one split named "all", whose rows are assigned to the three by a hash of their
    text.

    Attributes:
        label: the column that the hash leaves out.
        group: a column that is hashed alone, so that rows which share its value fall into the same split;
            if empty, the whole row is hashed.
    """

    label: str = "label"
    group: str = ""

    @property
    @abstractmethod
    def stored_splits(self) -> tuple[str, ...]:
        """The names of the stored splits, for ``rows``."""

    @abstractmethod
    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        """Yields the rows of a stored split, and a fault for each that cannot be read."""

    def place(self, stored_split: str) -> str:
        """The name of a stored split in error messages."""
        return str(self)

    def version(self, split: str) -> str | None:
        """A text that changes whenever the rows of a split may have changed; None if that is unknown."""
        return None

    @property
    def is_local(self) -> bool:
        """Whether the rows can be read without downloading them."""
        return False

    def check_reachable(self) -> None:  # noqa: B027, most sources are at hand
        """Refuses, before anything slow begins, data that must be downloaded if there is no network."""

    def count(self, split: str, columns: Columns = ALL) -> int | None:
        """Number of rows of a split; None if it is unknown until the rows are downloaded."""
        return sum(1 for _ in self.load(split, columns)) if self.is_local else None

    def has(self, split: str) -> bool:
        """Whether there is such a split, or one for all three; its rows are not read."""
        return split in self.stored_splits or "all" in self.stored_splits

    def _stored_split(self, split: str) -> str:
        """The stored split that holds the rows of a split: the one of that name, or else "all".

        Raises:
            UserError: there is no such split.
        """
        stored_split = split if split in self.stored_splits else "all"
        if stored_split not in self.stored_splits:
            have = ", ".join(self.stored_splits)
            raise UserError(f"{self} has no {split} split; it has {have}: name it in the task's source")
        return stored_split

    def load(self, split: str, columns: Columns = ALL) -> Iterator[Record]:
        """Yields the records of "train", "validation" or "test".

        Args:
            columns: the columns that determine a row's split, if the source does not store the three.

        Raises:
            UserError: there is no such split, or a row cannot be read.
        """
        stored_split = self._stored_split(split)
        rows = self.rows(stored_split)
        if stored_split != split:
            rows = split_by_hash(rows, split, self.label, self.group, columns)
        for row in rows:
            if isinstance(row, Fault):
                raise row
            yield row


@dataclass(frozen=True)
class Files(Source):
    """JSONL, CSV, TSV or Parquet files: one file per split, or one file for all three.

    Attributes:
        paths: maps a split, or "all", to a local path or a URL.
    """

    paths: Mapping[str, Path | str]
    label: str = "label"

    @property
    def stored_splits(self) -> tuple[str, ...]:
        return tuple(self.paths)

    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        return read_file(self.paths[stored_split])

    def place(self, stored_split: str) -> str:
        return str(self.paths[stored_split])

    @property
    def is_local(self) -> bool:
        return not any(map(is_remote, self.paths.values()))

    def check_reachable(self) -> None:
        for path in self.paths.values():
            check_store(path)

    def version(self, split: str) -> str | None:
        path = self.paths[self._stored_split(split)]
        return None if is_remote(path) else file_state(Path(path))

    def __str__(self) -> str:
        return ", ".join(str(path) for path in self.paths.values())


@dataclass(frozen=True)
class Rows(Source):
    """Rows that are held or generated in Python.

    Attributes:
        tables: maps a split, or "all", to its rows, or to a function that returns a new iterator over them;
            each row is a mapping from column names to values.
    """

    tables: Mapping[str, Iterable[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]]]
    label: str = "label"
    group: str = ""

    def __post_init__(self):
        for split, table in self.tables.items():
            if isinstance(table, Iterator):
                raise UserError(
                    f"{split} rows: an iterator can be read only once; give a list, or a function"
                )

    @property
    def stored_splits(self) -> tuple[str, ...]:
        return tuple(self.tables)

    @property
    def is_local(self) -> bool:
        return True

    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        table = self.tables[stored_split]
        for number, row in enumerate(table() if callable(table) else table):
            where = f"{stored_split} row {number}"
            if isinstance(row, Mapping) and all(isinstance(name, str) for name in row):
                yield Record(where, row)
            else:
                yield Fault("not a mapping", where, f"{row!r:.60} is not a mapping from column names")

    def __str__(self) -> str:
        return "rows given in Python"


@dataclass(frozen=True)
class Packaged(Source):
    """Data that comes inside Python packages of a fixed version.

    Attributes:
        packages: names in ``mpt.system.assets.ASSETS``.
        read: a function from the folders of these packages to the records.
    """

    packages: tuple[str, ...]
    read: Callable[..., Iterable[Record]]
    label: str = "label"
    group: str = ""

    @property
    def stored_splits(self) -> tuple[str, ...]:
        return ("all",)

    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        yield from self.read(*self._folders())

    def check_reachable(self) -> None:
        if not self.is_local and not is_online(INDEX):
            self._folders()  # another index may be at hand, or the packages' archives

    def _folders(self) -> list[Path]:
        """The folders of the packages, which are downloaded if necessary."""
        try:
            return [asset_dir(package) for package in self.packages]
        except UserError as error:
            others = "" if is_online(INDEX) else at_hand()
            if not others:
                raise
            raise UserError(f"{error} The data of these tasks is here: {others}") from None

    @property
    def is_local(self) -> bool:
        return all(map(unpacked, self.packages))

    def version(self, split: str) -> str | None:
        digests = " ".join(ASSETS[name].sha256 for name in self.packages)
        return f"{digests} {code_of(self.read)} {self.group}"

    def __str__(self) -> str:
        return f"package {' and '.join(self.packages)}"


@dataclass(frozen=True)
class Tfds(Source):
    """A data set of TensorFlow Datasets, read by random access and without TensorFlow.

    Attributes:
        name: the builder and its config, such as "glue/sst2".
        splits: maps a split of the task, or "all", to a split expression of the data set.
        unfold: a function from a row to its records, which may be several or none; if left out, each row is
            one record.
    """

    name: str
    splits: Mapping[str, str]
    unfold: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]] | None = None
    label: str = "label"

    @property
    def stored_splits(self) -> tuple[str, ...]:
        return tuple(self.splits)

    def check_reachable(self) -> None:
        folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
        place = folder / self.name.partition(":")[0]
        if not place.is_dir() and not is_online():
            raise UserError(
                f"cannot load {self}: it is not on this machine, and there is no network. "
                f"{without_network()} A copy that TFDS has prepared elsewhere goes into {place}"
            )

    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        self.check_reachable()
        import tensorflow_datasets as tfds

        rows = self._rows(stored_split)
        labels = {
            name: feature
            for name, feature in rows.dataset_info.features.items()
            if isinstance(feature, tfds.features.ClassLabel)
        }
        for i, row in enumerate(rows):
            columns = with_label_names(decoded(row), labels)
            for record in self.unfold(columns) if self.unfold else [columns]:
                yield Record(f"{self} {stored_split} row {i}", record)

    def _rows(self, stored_split: str) -> Any:
        import tensorflow_datasets as tfds

        try:
            return tfds.data_source(self.name, split=self.splits[stored_split])
        except ModuleNotFoundError as error:
            missing = str(error).rpartition(": ")[2]
            remedy = "install that package; it is not needed once the data set is prepared"
            raise UserError(f"cannot prepare {self}: {missing}; {remedy}") from error
        except (tfds.core.DatasetNotFoundError, OSError, ValueError, AssertionError) as error:
            raise UserError(f"cannot load {self} ({stored_split}): {first_line(error)}") from error

    def has(self, split: str) -> bool:
        """Whether there is such a split; one by its own name may be a guess, so the data is asked."""
        builder = prepared(self.name) if self.splits.get(split) == split else None
        return super().has(split) and (builder is None or split in builder.info.splits)

    @property
    def is_local(self) -> bool:
        return prepared(self.name) is not None

    def count(self, split: str, columns: Columns = ALL) -> int | None:
        """Number of rows of the data set, before ``unfold``."""
        stored = self._stored_split(split)
        return tfds_rows(self.name, self.splits[stored]) if stored == split else super().count(split, columns)

    def version(self, split: str) -> str | None:
        stored_split = self._stored_split(split)
        info = self._rows(stored_split).dataset_info
        written = file_state(Path(info.data_dir) / "dataset_info.json")
        return f"{info.full_name} {self.splits[stored_split]} {written} {code_of(self.unfold)}"

    def __str__(self) -> str:
        return f"TFDS {self.name}"


def file_state(path: Path) -> str:
    """The path, size and modification time of a file, as one text that changes with the file."""
    state = path.stat() if path.exists() else None
    return f"{path.absolute()} {state.st_size} {state.st_mtime_ns}" if state else str(path.absolute())


def code_of(function: Callable[..., Any] | None) -> str:
    """Identifies what a function's result depends on, apart from its arguments; empty for None.

    That is its name, the SHA-256 of the source file that defines it, and the values that it closes over:
    these distinguish functions that are made by the same function.
    """
    if function is None:
        return ""
    defined: Any = inspect.unwrap(function)
    file = inspect.getsourcefile(defined)
    source = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    closed_over = {
        name: code_of(value) if callable(value) else repr(value)
        for name, value in inspect.getclosurevars(defined).nonlocals.items()
    }
    return f"{defined.__qualname__} {source} {closed_over}"


def with_label_names(columns: Mapping[str, Any], labels: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces class numbers by class names, whose meaning does not depend on the data set's version.

    Args:
        labels: maps each label column to its feature, which knows the names. The number -1, which stands for
            a hidden label, stays.
    """
    named = {
        name: feature.int2str(columns[name])
        for name, feature in labels.items()
        if columns[name] is not None and columns[name] >= 0
    }
    return {**columns, **named}


def decoded(value: Any) -> Any:
    """Converts a TFDS row to Python values: bytes become text, arrays lists, NumPy scalars numbers."""
    if isinstance(value, dict):
        return {name: decoded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [decoded(item) for item in value]
    if hasattr(value, "tolist"):
        return decoded(value.tolist())
    return value.decode() if isinstance(value, bytes) else value
