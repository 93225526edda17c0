"""All tasks there are: the packaged ones by name, and the user's own files by path."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mpt.tasks
from mpt.config import read_yaml
from mpt.data.sources import SPLITS, Files, Source, Tfds
from mpt.data.task import Task
from mpt.errors import UserError, nearest
from mpt.metrics import METRICS


@cache
def packaged_tasks() -> Mapping[str, Task]:
    """Every task of the modules in ``tasks/``, by name.

    Raises:
        ValueError: two tasks share a name.
    """
    found: dict[str, Task] = {}
    for module in pkgutil.iter_modules(mpt.tasks.__path__):
        for task in importlib.import_module(f"mpt.tasks.{module.name}").TASKS:
            if task.name in found:
                raise ValueError(f"tasks/{module.name}.py: task '{task.name}' is registered twice")
            found[task.name] = task
    return found


def find_task(name: str) -> Task:
    """A packaged task by name, or a user's task file by path."""
    if name.endswith((".yaml", ".yml")):
        return read_task(Path(name))
    if name not in packaged_tasks():
        raise UserError(f"task '{name}' is unknown; {nearest(name, packaged_tasks())}, or give a .yaml file")
    return packaged_tasks()[name]


TASK_KEYS = {
    "source": (str, dict),
    "template": (str,),
    "verbalizer": (dict,),
    "label": (str,),
    "metric": (str,),
    "instruction": (str,),
    "url": (str,),
    "scoring": (str,),
}


def read_task(path: Path) -> Task:
    """A task from a YAML file; its data files are named relative to it.

    Raises:
        UserError: names the file and the key at fault.
    """
    found = read_yaml(path)
    for key, value in found.items():
        if key not in TASK_KEYS:
            raise UserError(f"{path}: unknown key '{key}'; {nearest(str(key), TASK_KEYS)}")
        if not isinstance(value, TASK_KEYS[key]):
            wanted = " or ".join({str: "a text", dict: "a mapping"}[kind] for kind in TASK_KEYS[key])
            raise UserError(f"{path}: {key} must be {wanted}, not {value!r}")
    for key in ("source", "template"):
        if key not in found:
            raise UserError(f"{path}: missing key '{key}'")
    if found.get("metric", "accuracy") not in METRICS:
        raise UserError(f"{path}: metric '{found['metric']}' is unknown; {nearest(found['metric'], METRICS)}")
    label = found.get("label", "label")
    words = {_plain(key): _plain(value) for key, value in found.get("verbalizer", {}).items()}
    rest = {key: found[key] for key in ("metric", "instruction", "url", "scoring") if key in found}
    source = _source(found["source"], label, path)
    try:
        return Task(path.stem, source, found["template"], words, label, **rest)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _plain(value: Any) -> str:
    """A label as a record would spell it: YAML reads ``true`` and ``1`` as more than text."""
    return str(value)


def _source(source: str | dict[str, Any], label: str, path: Path) -> Source:
    """``reviews.csv``, ``{train: a.jsonl, test: b.jsonl}`` or ``{tfds: glue/sst2, train: …}``."""
    if isinstance(source, str):
        return Files({"all": path.parent / source}, label)
    for key in source:
        if key not in (*SPLITS, "tfds"):
            raise UserError(f"{path}: source: unknown split '{key}'; {nearest(str(key), (*SPLITS, 'tfds'))}")
    splits = {key: str(value) for key, value in source.items() if key != "tfds"}
    if "tfds" in source:
        return Tfds(str(source["tfds"]), splits or {split: split for split in SPLITS})
    return Files({split: path.parent / file for split, file in splits.items()}, label)
