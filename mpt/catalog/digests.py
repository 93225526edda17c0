"""Digests of what tasks are made of, by which a run notices that one of its tasks has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from mpt.data.sources import Files
from mpt.data.task import Task

# What of a task decides on its examples and on how they are scored.
WORDING = (
    "template",
    "templates",
    "verbalizer",
    "label",
    "metrics",
    "instruction",
    "scoring",
    "group",
    "chat",
    "system",
    "learned",
    "place",
    "max_new_tokens",
)


def digests_of(tasks: Sequence[Task]) -> dict[str, dict[str, str]]:
    """Task -> the digests of its "wording" and of its "rows", empty where these are in no local files."""
    return {task.name: {"wording": _wording(task), "rows": _rows(task)} for task in tasks}


def _wording(task: Task) -> str:
    parts = {name: getattr(task, name) for name in WORDING}
    # As items, since the order of the classes counts.
    plain = {name: [*part.items()] if hasattr(part, "items") else part for name, part in parts.items()}
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _rows(task: Task) -> str:
    """The digest of a task's local files; empty where one is gone, for a finished run can be read without."""
    source = task.source
    if not isinstance(source, Files) or not source.is_local:
        return ""
    whole = hashlib.sha256()
    for split, path in source.paths.items():
        if not Path(path).is_file():
            return ""
        with Path(path).open("rb") as file:
            whole.update(f"{split} {hashlib.file_digest(file, 'sha256').hexdigest()} ".encode())
    return whole.hexdigest()
