"""Sources that Hugging Face's `datasets` library reads: a data set on the hub, or one saved in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mpt.data.arrow import arrow_records
from mpt.data.records import Fault, Record
from mpt.data.sources import Source, with_label_names
from mpt.errors import UserError, first_line, require
from mpt.system.network import hub, is_online
from mpt.system.paths import is_remote
from mpt.tasks import without_network


@dataclass(frozen=True)
class Hub(Source):
    """A data set on the hub, downloaded once; code that comes with it is never run.

    Attributes:
        name: the data set's name, such as "nyu-mll/glue".
        splits: maps a split of the task, or "all", to a split expression of the data set.
        config: the name of the data set's config, if it has several.
    """

    name: str
    splits: Mapping[str, str]
    config: str = ""
    label: str = "label"

    @property
    def stored_splits(self) -> tuple[str, ...]:
        return tuple(self.splits)

    def has(self, split: str) -> bool:
        """Whether there is such a split; a split's own name may be a guess, so the hub is queried."""
        known = _hub_splits(self.name, self.config) if self.splits.get(split) == split else ()
        return super().has(split) and (not known or split in known)

    def check_reachable(self) -> None:
        require("datasets", "datasets", str(self))
        if not is_online(hub()):
            next(self.rows(self.stored_splits[0]), None)

    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        datasets = _hub()
        try:
            dataset = datasets.load_dataset(self.name, self.config or None, split=self.splits[stored_split])
        except Exception as error:  # the hub's client raises many types; all mean that the download failed
            if not is_online(hub()):
                raise UserError(
                    f"cannot load {self} ({stored_split}): it is not on this machine, and there is no "
                    f"network. {without_network()} A copy that save_to_disk has written is read by saved: "
                    "FOLDER in a task file's source"
                ) from None
            raise UserError(f"cannot load {self} ({stored_split}): {first_line(error)}") from None
        yield from _records(f"{self} {stored_split}", dataset)

    def __str__(self) -> str:
        return f"hub data set {self.name}" + (f" ({self.config})" if self.config else "")


@dataclass(frozen=True)
class Saved(Source):
    """A data set that ``save_to_disk`` of the `datasets` library has written into a folder.

    Attributes:
        folder: a local path or a URL.
        splits: maps a split of the task, or "all", to a split of the folder. If left out, the names are the
            same; a folder without splits is one split named "all".
    """

    folder: str
    splits: Mapping[str, str] = field(default_factory=dict)
    label: str = "label"

    @cached_property
    def _by_split(self) -> Mapping[str, Any]:
        """The folder's data sets, by the name of their split."""
        datasets = _library()
        try:
            dataset = datasets.load_from_disk(self.folder)
        except Exception as error:  # of many types, from Arrow's to a remote store's
            raise UserError(f"cannot load {self}: {first_line(error)}") from None
        return dataset if isinstance(dataset, datasets.DatasetDict) else {"all": dataset}

    @property
    def is_local(self) -> bool:
        return not is_remote(self.folder)

    @property
    def stored_splits(self) -> tuple[str, ...]:
        return tuple(self.splits or self._by_split)

    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        name = self.splits.get(stored_split, stored_split)
        if name not in self._by_split:
            raise UserError(f"{self} has no split '{name}'; it has {', '.join(self._by_split)}")
        yield from _records(f"{self} {name}", self._by_split[name])

    def __str__(self) -> str:
        return f"saved data set {self.folder}"


def _library() -> Any:
    require("datasets", "datasets", "this task's source")
    import datasets

    return datasets


def _hub() -> Any:
    """The library; without a network, it uses only its cache, so that it does not wait long."""
    datasets = _library()
    if not is_online(hub()):
        import huggingface_hub.constants

        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    return datasets


def _hub_splits(name: str, config: str) -> tuple[str, ...]:
    """The splits that a data set declares; none if it declares none, or cannot be reached."""
    try:
        return tuple(_hub().load_dataset_builder(name, config or None).info.splits or ())
    except Exception:  # of many types; the error is reported when the split is loaded
        return ()


def _records(name: str, dataset: Any) -> Iterator[Record | Fault]:
    """Yields the rows as they are stored, without decoding images or audio."""
    labels = {
        column: feature
        for column, feature in dataset.features.items()
        if isinstance(feature, _library().ClassLabel)
    }
    for row in arrow_records(name, dataset.with_format("arrow").iter(1024)):
        yield row if isinstance(row, Fault) else row._replace(columns=with_label_names(row.columns, labels))
