"""Data sets of Hugging Face's `datasets` library: by their name on the hub, or saved in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mpt.data.arrow import arrow_records
from mpt.data.records import Fault, Record
from mpt.data.sources import Source, with_label_names
from mpt.errors import UserError, first_line, install
from mpt.system.paths import is_remote


@dataclass(frozen=True)
class Hub(Source):
    """A data set on the hub, fetched once; no code that comes with it is run.

    Attributes:
        name: its name, such as "nyu-mll/glue".
        splits: our split, or "all" -> the data set's split expression.
        config: which of its configs, if it has several.
    """

    name: str
    splits: Mapping[str, str]
    config: str = ""
    label: str = "label"

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.splits)

    def rows(self, part: str) -> Iterator[Record | Fault]:
        datasets = _library()
        try:
            found = datasets.load_dataset(self.name, self.config or None, split=self.splits[part])
        except Exception as error:  # the hub's client raises many kinds, all meaning that it did not come
            raise UserError(f"cannot load {self} ({part}): {first_line(error)}") from None
        yield from _records(f"{self} {part}", found)

    def __str__(self) -> str:
        return f"hub data set {self.name}" + (f" ({self.config})" if self.config else "")


@dataclass(frozen=True)
class Saved(Source):
    """A folder that ``save_to_disk`` of the `datasets` library has written.

    Attributes:
        folder: a local path or a URL.
        splits: our split, or "all" -> the split's name in the folder. Left out, they have the same
            names; a folder without splits is one whole.
    """

    folder: str
    splits: Mapping[str, str] = field(default_factory=dict)
    label: str = "label"

    @cached_property
    def _found(self) -> Mapping[str, Any]:
        """The folder's splits by name."""
        datasets = _library()
        try:
            found = datasets.load_from_disk(self.folder)
        except Exception as error:  # of many kinds, from Arrow's to a remote store's
            raise UserError(f"cannot load {self}: {first_line(error)}") from None
        return found if isinstance(found, datasets.DatasetDict) else {"all": found}

    @property
    def here(self) -> bool:
        return not is_remote(self.folder)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.splits or self._found)

    def rows(self, part: str) -> Iterator[Record | Fault]:
        name = self.splits.get(part, part)
        if name not in self._found:
            raise UserError(f"{self} has no split '{name}'; it has {', '.join(self._found)}")
        yield from _records(f"{self} {name}", self._found[name])

    def __str__(self) -> str:
        return f"saved data set {self.folder}"


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(f"this task's source needs the package datasets: {install('datasets')}") from None
    return datasets


def _records(name: str, found: Any) -> Iterator[Record | Fault]:
    """The rows as they are stored: no picture or sound in them is decoded."""
    labels = {
        column: feature
        for column, feature in found.features.items()
        if isinstance(feature, _library().ClassLabel)
    }
    for row in arrow_records(name, found.with_format("arrow").iter(1024)):
        yield row if isinstance(row, Fault) else row._replace(columns=with_label_names(row.columns, labels))
