"""Tasks of rows that Python holds, and their way into a run's folder, from which they can be read again."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpt.catalog.library import find_task
from mpt.config.yaml_file import dump_config
from mpt.data.records import Record
from mpt.data.sources import Rows
from mpt.data.splits import SPLITS
from mpt.data.task import Task
from mpt.errors import UserError, first_line, nearest

MOST_CLASSES = 100
PLAIN_NAME = re.compile(r"\w[\w.-]*")  # what can be a file's name, and a served model's

# Rows: mappings from columns' names, pairs of a text and its label, or a pandas frame.
Table = Iterable[Any]
Given = str | Path | Task | Table | Mapping[str, Table]


def make_task(
    rows: Table | Mapping[str, Table],
    name: str = "rows",
    *,
    template: str = "",
    label: str = "label",
    verbalizer: Mapping[Any, str] | None = None,
    **parts: Any,
) -> Task:
    """A task of rows that Python holds.

    Args:
        rows: mappings from columns' names, ``(text, label)`` pairs, or a pandas frame, which are split
            by a hash of each row's text: 70 % train, 10 % validation, 20 % test. Or a mapping from
            "train", "validation" and "test" to the rows of each.
        name: what the task is called in cards, figures and by a server.
        template: the input text; all columns but the label, a line each, where left out.
        label: the column with the label.
        verbalizer: label -> the words that the model says for it. Each label stands for itself where
            left out; an empty mapping means that labels are free text.
        **parts: the other attributes of ``mpt.Task``: ``instruction``, ``metrics``, ``scoring``, ...

    Raises:
        UserError: there are no rows, or they are not of one of these kinds.

    >>> task = make_task([("so glad", "good"), ("so sad", "bad")], "mood")
    >>> task.template, dict(task.verbalizer)
    ('{text}\\nAnswer:', {'bad': 'bad', 'good': 'good'})
    >>> task.example(next(task.source.rows("all"))).inputs
    'so glad\\nAnswer:'
    """
    _check_name(name)
    tables = rows if isinstance(rows, Mapping) else {"all": rows}
    if unknown := [split for split in tables if split not in (*SPLITS, "all")]:
        raise UserError(f"task {name}: no split '{unknown[0]}'; {nearest(str(unknown[0]), SPLITS)}")
    found = {split: labelled(table, label, f"task {name}: {split}") for split, table in tables.items()}
    every = [row for table in found.values() for row in table]
    if not every:
        raise UserError(f"task {name}: there are no rows")
    if not template:
        columns = [column for column in every[0] if column != label]
        template = "".join(f"{{{column}}}\n" for column in columns) + "Answer:"
    if verbalizer is None:
        verbalizer = {text: text for text in _labels(every, label, name)}
    words = {str(each): str(word) for each, word in verbalizer.items()}
    if unknown := [part for part in parts if part not in Task.__dataclass_fields__]:
        hint = nearest(unknown[0], Task.__dataclass_fields__)
        raise UserError(f"task {name}: no part '{unknown[0]}'; {hint}")
    task = Task(name, Rows(found, label), template, words, label, **parts)
    columns = _columns(task)
    read = {split: [_part(row, columns) for row in table] for split, table in found.items()}
    return replace(task, source=Rows(read, label))


def as_task(given: Given) -> Task:
    """The task that was named, by name or by file, or that was given as it is, or as its rows.

    >>> as_task("movies").choices
    ('negative', 'positive')
    """
    if isinstance(given, Task):
        return given
    return find_task(str(given)) if isinstance(given, (str, Path)) else make_task(given)


def task_files(task: Task) -> dict[str, str]:
    """The task file of a task, and the rows of its splits: file name -> content.

    Raises:
        UserError: a row cannot be read, or holds what JSON has no word for.
    """
    _check_name(task.name)
    columns, parts = _columns(task), task.source.parts
    splits = [split for split in SPLITS if split in parts or "all" in parts]
    files = {
        f"{task.name}.{split}.jsonl": "".join(_line(record, columns) for record in task.source.load(split))
        for split in splits
    }
    plain = {
        "source": {split: f"{task.name}.{split}.jsonl" for split in splits},
        "template": task.template,
        "verbalizer": dict(task.verbalizer),
        "label": task.label,
        "metric": list(task.metrics),
        "instruction": task.instruction,
        "url": task.url,
        "scoring": task.scoring,
        "group": task.group,
    }
    return files | {f"{task.name}.yaml": dump_config(plain)}


def _check_name(name: str) -> None:
    if not PLAIN_NAME.fullmatch(name):
        raise UserError(f"task '{name}': name it with letters, digits, '-', '_' and '.' alone")


def listed(table: Any, where: str) -> list[Any]:
    """A table's rows as they are; those of a frame as mappings.

    >>> listed("so glad", "inputs")
    Traceback (most recent call last):
        ...
    mpt.errors.UserError: inputs: give a list or a pandas frame, not 'so glad'
    """
    pandas: Any = sys.modules.get("pandas")  # who has a frame has imported it
    if pandas and isinstance(table, pandas.DataFrame):
        return table.astype(object).where(table.notna(), None).to_dict("records")
    if isinstance(table, (str, bytes, Mapping)) or not isinstance(table, Iterable):
        raise UserError(f"{where}: give a list or a pandas frame, not {table!r:.60}")
    return list(table)


def labelled(table: Any, label: str, where: str, text: str = "text") -> list[Mapping[str, Any]]:
    """A table's rows as mappings; of a pair, the columns are ``text`` and ``label``."""
    rows = listed(table, where)
    for number, row in enumerate(rows):
        if isinstance(row, (tuple, list)) and len(row) == 2:
            rows[number] = {text: row[0], label: row[1]}
        elif not isinstance(row, Mapping):
            raise UserError(
                f"{where} row {number}: {row!r:.60} is neither a mapping nor a (text, label) pair"
            )
    return rows


def _labels(rows: Sequence[Mapping[str, Any]], label: str, name: str) -> list[str]:
    """The different labels of rows, in order."""
    if bare := [number for number, row in enumerate(rows) if label not in row]:
        columns = ", ".join(map(str, rows[bare[0]]))
        raise UserError(f"task {name}: row {bare[0]} has no column '{label}'; it has {columns}: set label=")
    labels = sorted({str(row[label]).strip() for row in rows})
    if len(labels) > MOST_CLASSES:
        raise UserError(f"task {name}: {len(labels)} different labels; for free text, set verbalizer={{}}")
    return labels


def _columns(task: Task) -> set[str]:
    """The columns that a task reads, by any of its templates."""
    versions = [task, *(task.with_template(name) for name in task.templates)]
    return {task.label, task.group, *(column for version in versions for column in version.columns)}


def _part(row: Mapping[str, Any], columns: set[str]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if column in columns}


def _line(record: Record, columns: set[str]) -> str:
    try:
        return json.dumps(_part(record.columns, columns), allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"{record.where}: {first_line(error)}; make it a text or a number") from None
