"""What to learn: a file per benchmark, with its tasks in ``TASKS``; each has one row as a comment.

Splits are those of ATTEMPT (Asai et al., 2022) and what follows it, MPT too, where a benchmark hides
its test labels. TFDS shuffles rows when it prepares a data set, so a range of rows is a random sample.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]
Rows = Iterator[Row]


def small(train: str = "train", validation: str = "validation") -> dict[str, str]:
    """Splits of a data set with under 10,000 rows to train on: validation, halved, is also the test."""
    return {"train": train, "validation": f"{validation}[:50%]", "test": f"{validation}[50%:]"}


def large(train: str = "train", test: str = "validation") -> dict[str, str]:
    """Splits of a larger one: 1,000 rows to train on are validation, and another split is the test."""
    return {"train": f"{train}[1000:]", "validation": f"{train}[:1000]", "test": test}


def at_hand() -> str:
    """The names of the tasks that need no network, since their packages are here."""
    return _names(lambda task: task.source.is_local)


def without_network() -> str:
    """Which tasks work without a network; where there are none, which need the least from elsewhere."""
    if here := at_hand():
        return f"Without one, these tasks work: {here}."
    return (
        "These tasks need only a small package, and `mpt tasks show NAME` says into which folder its file "
        f"goes: {_names(lambda _: True)}."
    )


def _names(wanted: Callable[[Any], bool]) -> str:
    """Those of the tasks whose data is in packages."""
    from mpt.tasks import offline, wordnet  # they import this module

    return ", ".join(task.name for task in (*offline.TASKS, *wordnet.TASKS) if wanted(task))


def own() -> dict[str, str]:
    """The splits of a data set that has all three."""
    return {split: split for split in ("train", "validation", "test")}
