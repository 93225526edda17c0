"""What to learn: a file per benchmark, with its tasks in ``TASKS``; each has one row as a comment.

Splits are those of ATTEMPT (Asai et al., 2022) and what follows it, MPT too, where a benchmark hides
its test labels. TFDS shuffles rows when it prepares a data set, so a range of rows is a random sample.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]
Rows = Iterator[Row]


def small(train: str = "train", validation: str = "validation") -> dict[str, str]:
    """Splits of a data set with under 10,000 rows to train on: validation, halved, is also the test."""
    return {"train": train, "validation": f"{validation}[:50%]", "test": f"{validation}[50%:]"}


def large(train: str = "train", test: str = "validation") -> dict[str, str]:
    """Splits of a larger one: 1,000 rows to train on are validation, and another split is the test."""
    return {"train": f"{train}[1000:]", "validation": f"{train}[:1000]", "test": test}


def at_hand(fetched: bool = False) -> str:
    """The names of the tasks that need no network: whose packages are here, or else those with packages.

    Args:
        fetched: without the latter.
    """
    from mpt.tasks import offline, wordnet  # they import this module

    tasks = (*offline.TASKS, *wordnet.TASKS)
    here = [task for task in tasks if task.source.is_local]
    return ", ".join(task.name for task in (here if here or fetched else tasks))


def own() -> dict[str, str]:
    """The splits of a data set that has all three."""
    return {split: split for split in ("train", "validation", "test")}
