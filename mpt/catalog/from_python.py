"""Makes tasks of rows that are held in Python, and saves them in a run's folder so that it can be resumed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpt.catalog.library import find_task
from mpt.config.yaml_file import dump_config
from mpt.data.arrow import header_faults
from mpt.data.records import Record, is_missing
from mpt.data.sources import Rows
from mpt.data.splits import SPLITS
from mpt.data.task import CHAT_PARTS, Task
from mpt.data.taskfile import PLAIN_NAME
from mpt.data.text.messages import COLUMNS, is_conversation
from mpt.errors import UserError, first_line, nearest

MOST_CLASSES = 100

# Columns that number rows. In a template, they would put equal texts into two splits.
NUMBERS = ("id", "idx", "index", "guid", "uid", "uuid")

# Rows: mappings from column names to values, pairs of a text and its label, or a pandas data frame.
Table = Iterable[Any]
Given = str | Path | Task | Table | Mapping[str, Table]


def make_task(
    rows: Table | Mapping[str, Table],
    name: str = "rows",
    *,
    template: str = "",
    label: str = "label",
    verbalizer: Mapping[Any, str] | None = None,
    **attributes: Any,
) -> Task:
    """Makes a task of rows that are held in Python.

    Args:
        rows: mappings from column names to values, ``(text, label)`` pairs, or a pandas data frame. They are
            split by a hash of each row's text: 70 % train, 10 % validation, 20 % test. Or a mapping from
            "train", "validation" and "test" to the rows of each.
        name: the name of the task in cards, in figures and on a server.
        template: the input text; if left out, all columns but the label and a row's number (such as ``id``),
            each on a line of its own.
        label: the column with the label.
        verbalizer: maps each label to the class words that the model produces for it. If left out, the words
            are the labels themselves; an empty mapping means that labels are free text.
        **attributes: the other attributes of ``mpt.Task``: ``instruction``, ``metrics``, ``scoring``, ...

    Raises:
        UserError: there are no rows, or they have another form.

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
    by_split = {split: labelled(table, label, f"task {name}: {split}") for split, table in tables.items()}
    all_rows = [row for table in by_split.values() for row in table]
    if not all_rows:
        raise UserError(f"task {name}: there are no rows")
    talks = bool(attributes.get("chat")) and not template and is_conversation(all_rows[0])
    if talks and verbalizer is None:
        verbalizer = {}
    if not template and not talks:
        columns = [column for column in all_rows[0] if column != label]
        columns = [column for column in columns if str(column).casefold() not in NUMBERS] or columns
        template = "".join(f"{{{column}}}\n" for column in columns) + "Answer:"
    if verbalizer is None:
        verbalizer = {text: text for text in _labels(all_rows, label, name)}
    words = {str(each): str(word) for each, word in verbalizer.items()}
    if unknown := [attribute for attribute in attributes if attribute not in Task.__dataclass_fields__]:
        hint = nearest(unknown[0], Task.__dataclass_fields__)
        raise UserError(f"task {name}: no part '{unknown[0]}'; {hint}")
    if metrics := attributes.get("metrics"):
        attributes["metrics"] = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    task = Task(name, Rows(by_split, label), template, words, label, **attributes)
    columns = _columns(task)
    _check_columns(task, all_rows)
    tables = {split: [_selected(row, columns) for row in table] for split, table in by_split.items()}
    return replace(task, source=Rows(tables, label))


def as_task(given: Given) -> Task:
    """The task that ``given`` stands for: a task itself, its name, its task file, or its rows.

    >>> as_task("movies").choices
    ('negative', 'positive')
    """
    if isinstance(given, Task):
        return given
    return find_task(str(given)) if isinstance(given, (str, Path)) else make_task(given)


def task_files(task: Task) -> dict[str, str]:
    """The contents of a task file and of the JSONL files with its splits, by file name.

    Raises:
        UserError: a row cannot be read, or has a value that JSON cannot represent.
    """
    _check_name(task.name)
    columns, stored = _columns(task), task.source.stored_splits
    splits = [split for split in SPLITS if split in stored or "all" in stored]
    files = {
        f"{task.name}.{split}.jsonl": "".join(
            _line(record, columns) for record in task.source.load(split, task.hashed)
        )
        for split in splits
    }
    plain = {
        "source": {split: f"{task.name}.{split}.jsonl" for split in splits},
        **({"template": task.template} if task.template else {}),
        "verbalizer": dict(task.verbalizer),
        "label": task.label,
        "metric": list(task.metrics),
        "instruction": task.instruction,
        "url": task.url,
        "scoring": task.scoring,
        "group": task.group,
        **({name: getattr(task, name) for name in CHAT_PARTS} if task.chat else {}),
        **({} if task.choices else {"max_new_tokens": task.max_new_tokens}),
    }
    return files | {f"{task.name}.yaml": dump_config(plain)}


def _check_name(name: str) -> None:
    if not PLAIN_NAME.fullmatch(name):
        raise UserError(f"task '{name}': name it with letters, digits, '-', '_' and '.' alone")


def listed(table: Any, where: str) -> list[Any]:
    """The rows of a table as a list; those of a data frame become mappings.

    >>> listed("so glad", "inputs")
    Traceback (most recent call last):
        ...
    mpt.errors.UserError: inputs: give a list or a pandas frame, not 'so glad'
    """
    pandas: Any = sys.modules.get("pandas")  # imported already if the table is a data frame
    if pandas and isinstance(table, pandas.DataFrame):
        for fault in header_faults(where, [str(column) for column in table.columns]):
            raise fault
        return table.astype(object).where(table.notna(), None).to_dict("records")
    if isinstance(table, (str, bytes, Mapping)) or not isinstance(table, Iterable):
        raise UserError(f"{where}: give a list or a pandas frame, not {table!r:.60}")
    return list(table)


def labelled(table: Any, label: str, where: str, text: str = "text") -> list[Mapping[str, Any]]:
    """The rows of a table as mappings; a pair becomes the columns ``text`` and ``label``."""
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
    """The distinct labels of the rows, sorted."""
    if bare := [number for number, row in enumerate(rows) if label not in row]:
        columns = ", ".join(map(str, rows[bare[0]]))
        raise UserError(f"task {name}: row {bare[0]} has no column '{label}'; it has {columns}: set label=")
    if bare := [number for number, row in enumerate(rows) if is_missing(row[label])]:
        count = f" and {len(bare) - 1} more" if bare[1:] else ""
        raise UserError(f"task {name}: row {bare[0]}{count}: column '{label}' is empty; leave such rows out")
    labels = sorted({str(row[label]).strip() for row in rows})
    if len(labels) > MOST_CLASSES:
        raise UserError(
            f"task {name}: {len(labels)} different labels; for free text, set verbalizer={{}}; for more than "
            f"{MOST_CLASSES} classes, set verbalizer to a mapping from each label to its word"
        )
    return labels


def _columns(task: Task) -> set[str]:
    """The columns that a task uses, with any of its templates."""
    read = COLUMNS if task.reads_conversations else (name for each in task.versions for name in each.columns)
    return {task.label, task.group, *read}


def _check_columns(task: Task, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a column that is asked for and that no row has."""
    there = {column for row in rows for column in row}
    label = [] if task.reads_conversations else [task.label]
    needed = [*task.columns, *label, *filter(None, [task.group])]
    if lacking := [column for column in needed if column not in there]:
        has = ", ".join(map(str, rows[0]))
        raise UserError(f"task {task.name}: no row has a column '{lacking[0]}'; they have {has}")


def _selected(row: Mapping[str, Any], columns: set[str]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if column in columns}


def _line(record: Record, columns: set[str]) -> str:
    try:
        return json.dumps(_selected(record.columns, columns), allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"{record.where}: {first_line(error)}; make it a text or a number") from None
