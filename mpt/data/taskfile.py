"""Reads task files, in which users describe a task in YAML, and reports everything that is wrong in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from ruamel.yaml import YAML

from mpt.config.yaml_file import read_yaml
from mpt.data.hub import Hub, Saved
from mpt.data.records import Fault, Record
from mpt.data.sources import Files, Source, Tfds
from mpt.data.splits import SPLITS
from mpt.data.task import CHAT_PARTS, Task, Turns
from mpt.data.text.example import Place, Scoring
from mpt.data.text.messages import is_conversation
from mpt.errors import UserError, nearest
from mpt.metrics import METRICS
from mpt.system.paths import is_remote

KEYS = {
    "source": (str, dict),
    "template": (str, dict),
    "verbalizer": (dict,),
    "label": (str,),
    "metric": (str, list),
    "instruction": (str,),
    "url": (str,),
    "scoring": (str,),
    "group": (str,),
    "chat": (bool,),
    "system": (str,),
    "learned": (str,),
    "place": (str,),
    "max_new_tokens": (int,),
    "name": (str,),
}
# Keys that are attributes of a task, with the same values.
PLAIN_KEYS = ("instruction", "url", "scoring", "group", "max_new_tokens", *CHAT_PARTS)
CHOICES = {"scoring": Scoring, "learned": Turns, "place": Place}
PLAIN_NAME = re.compile(r"\w[\w.-]*")  # what is valid as the name of a file and of a served model
LIBRARIES = ("tfds", "hub", "saved")  # libraries that read a source which is not a file
SOURCE_KEYS = (*SPLITS, "all", *LIBRARIES, "config")
Faulty = tuple[tuple[Any, ...], str]  # the path of keys to a mistake, and what is wrong there


def is_task_file(name: str) -> bool:
    """Whether a task is named by a task file, not by the name of a packaged task."""
    return name.endswith((".yaml", ".yml"))


def from_anywhere(name: str) -> str:
    """Makes the name of a task valid in every folder: the path of a task file becomes absolute.

    >>> from_anywhere("movies"), Path(from_anywhere("reviews.yaml:long")).is_absolute()
    ('movies', True)
    """
    file, colon, template = name.partition(":")
    return f"{Path(file).absolute()}{colon}{template}" if is_task_file(file) else name


def read_task(path: Path) -> Task:
    """Reads a task from a YAML file, which names its data files relative to itself.

    Raises:
        UserError: the file has a mistake; the error names the file, the line and the key.
    """
    task, faults = parse_task(path)
    if faults or task is None:
        raise faults[0]
    return task


def parse_task(path: Path) -> tuple[Task | None, list[Fault]]:
    """Reads the valid keys of a task file, and collects a fault for each of the others.

    Returns:
        The task, or None if its source or its template is invalid; and the faults.

    Raises:
        UserError: the file is not YAML.
    """
    content, lines = read_yaml(path), _lines(path)
    if not {"template", "chat"} & content.keys() and _holds_conversations(path, content):
        content["chat"] = True
    faults, wrong = [], set()
    for keys, reason in _faults(path.stem, content):
        wrong.update(keys[:1])
        known = next(keys[:depth] for depth in range(len(keys), -1, -1) if keys[:depth] in lines)
        where = f"{path}:{lines[known]}" if known else str(path)
        faults.append(Fault("faulty task file", where, reason))
    valid = {key: value for key, value in content.items() if key not in wrong}
    try:
        return (_task(path, valid) if {*_needed(valid)} <= valid.keys() else None), faults
    except UserError as error:  # each key is valid, but their combination is not
        return None, faults or [Fault("faulty task file", str(path), str(error))]


def _holds_conversations(path: Path, content: Mapping[Any, Any]) -> bool:
    """Whether the first row of the source, if it is at hand, is a conversation."""
    try:
        source = _source(content["source"], "label", path)
        first = next(source.rows(source.stored_splits[0])) if source.is_local else None
    except (UserError, KeyError, IndexError, TypeError, AttributeError, StopIteration):
        return False  # any fault is reported when the source is checked or read
    return isinstance(first, Record) and is_conversation(first.columns)


def _lines(path: Path) -> dict[tuple[Any, ...], int]:
    """The line number of each key, by the path of keys to it."""
    lines: dict[tuple[Any, ...], int] = {(): 1}
    for key, value in YAML(typ="safe", pure=True).compose(path.read_text(encoding="utf-8")).value:
        lines[key.value,] = key.start_mark.line + 1
        if value.id == "mapping":
            lines |= {(key.value, inner.value): inner.start_mark.line + 1 for inner, _ in value.value}
    return lines


def _faults(name: str, content: Mapping[Any, Any]) -> Iterator[Faulty]:
    checks = {"source": _source_faults, "metric": _metric_faults, "verbalizer": _verbalizer_faults}
    for key, value in content.items():
        if key not in KEYS:
            yield (key,), f"unknown key '{key}'; {nearest(str(key), KEYS)}"
        elif not isinstance(value, KEYS[key]):
            wanted = {
                str: "a text",
                dict: "a mapping",
                list: "a list",
                bool: "true or false",
                int: "a whole number",
            }
            yield (key,), f"{key} must be {' or '.join(wanted[kind] for kind in KEYS[key])}, not {value!r}"
        elif key == "template":
            yield from _template_faults(name, value)
        elif key == "max_new_tokens":
            yield from _refused(name, (key,), max_new_tokens=value)
        elif key in CHOICES and value not in get_args(CHOICES[key]):
            yield (key,), f"{key} is '{value}'; {' and '.join(get_args(CHOICES[key]))} are known"
        elif key == "name" and not PLAIN_NAME.fullmatch(value):
            yield (key,), f"name is '{value}'; write it with letters, digits, '-', '_' and '.' alone"
        elif key in checks:
            yield from checks[key](name, value)
    for key in _needed(content):
        if key not in content:
            yield (), f"missing key '{key}'"


def _needed(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """The required keys: conversations need no template."""
    return ("source",) if content.get("chat") is True else ("source", "template")


def _refused(name: str, keys: tuple[Any, ...], **attribute: Any) -> Iterator[Faulty]:
    """Yields the error, if any, that a task with this attribute raises when all others are valid."""
    attributes: dict[str, Any] = {"template": "{text}"} | attribute
    try:
        Task(name, Files({}), **attributes)
    except UserError as error:
        yield keys, str(error)


def _template_faults(name: str, value: str | dict[Any, Any]) -> Iterator[Faulty]:
    templates = value if isinstance(value, dict) else {"": value}
    if not templates:
        yield ("template",), "template: it is empty"
    for key, template in templates.items():
        if isinstance(template, str):
            yield from _refused(name, ("template", key), template=template)
        else:
            yield ("template", key), f"template: '{key}' must be a text, not {template!r}"


def _metric_faults(name: str, value: str | list[Any]) -> Iterator[Faulty]:
    metrics = value if isinstance(value, list) else [value]
    if not metrics:
        yield ("metric",), "metric: it is empty"
    for metric in map(str, metrics):
        if metric not in METRICS:
            yield ("metric",), f"metric '{metric}' is unknown; {nearest(metric, METRICS)}"


def _verbalizer_faults(name: str, value: dict[Any, Any]) -> Iterator[Faulty]:
    bad = {label: word for label, word in value.items() if not isinstance(word, (str, int, float))}
    for label, word in bad.items():
        yield ("verbalizer", label), f"verbalizer: the word for '{label}' must be a text, not {word!r}"
    if not bad:
        yield from _refused(name, ("verbalizer",), verbalizer=_words(value))


def _source_faults(name: str, value: str | dict[Any, Any]) -> Iterator[Faulty]:
    if isinstance(value, str):
        return
    for key, item in value.items():
        if key not in SOURCE_KEYS:
            yield ("source", key), f"source: unknown split '{key}'; {nearest(str(key), SOURCE_KEYS)}"
        elif not isinstance(item, str):
            yield ("source", key), f"source: {key} must be a text, not {item!r}"
    libraries = [key for key in LIBRARIES if key in value]
    if len(libraries) > 1:
        yield ("source",), f"source: it names {' and '.join(libraries)}; one of them only"
    if not libraries and not {*SPLITS, "all"} & value.keys():
        yield ("source",), "source: it names no file; write train: FILE, or all: FILE to have it split"
    if "all" in value and {*SPLITS} & value.keys():
        yield ("source", "all"), "source: all stands for what is to be split; leave the other splits out"
    if "config" in value and "hub" not in value:
        yield ("source", "config"), "source: config is a hub data set's; leave it out"


def _words(verbalizer: Mapping[Any, Any]) -> dict[str, str]:
    """Labels and words as text, as in records: YAML reads ``true`` and ``1`` as other types."""
    return {str(label): str(word) for label, word in verbalizer.items()}


def _task(path: Path, keys: Mapping[str, Any]) -> Task:
    """Makes a task of the valid keys of its file."""
    template, metric = keys.get("template", ""), keys.get("metric", "accuracy")
    templates = template if isinstance(template, dict) else {}
    label = keys.get("label", "label")
    return Task(
        name=keys.get("name", path.stem),
        source=_source(keys["source"], label, path),
        # The first of several is the default.
        template=next(iter(templates.values()), str(template)),
        verbalizer=_words(keys.get("verbalizer", {})),
        label=label,
        metrics=tuple(metric) if isinstance(metric, list) else (metric,),
        templates=templates,
        **{key: keys[key] for key in PLAIN_KEYS if key in keys},
    )


def _source(source: str | dict[str, str], label: str, path: Path) -> Source:
    """The source that, for example, ``reviews.csv`` or ``{tfds: glue/sst2, train: …}`` describes."""

    def relative_to_task(file: str) -> str:
        return file if is_remote(file) else str(path.parent / file)

    if isinstance(source, str):
        return Files({"all": relative_to_task(source)}, label)
    splits = {split: name for split, name in source.items() if split in (*SPLITS, "all")}
    same_names = {split: split for split in SPLITS}
    if "tfds" in source:
        return Tfds(source["tfds"], splits or same_names, label=label)
    if "hub" in source:
        return Hub(source["hub"], splits or same_names, source.get("config", ""), label)
    if "saved" in source:
        return Saved(relative_to_task(source["saved"]), splits, label)
    return Files({split: relative_to_task(file) for split, file in splits.items()}, label)
