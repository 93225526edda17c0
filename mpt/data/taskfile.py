"""A user's task file: a task written in YAML, and all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from ruamel.yaml import YAML

from mpt.config.yaml_file import read_yaml
from mpt.data.hub import Hub, Saved
from mpt.data.records import Fault
from mpt.data.sources import Files, Source, Tfds
from mpt.data.splits import SPLITS
from mpt.data.task import Scoring, Task
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
}
LIBRARIES = ("tfds", "hub", "saved")  # where a source that is no file comes from
SOURCE_KEYS = (*SPLITS, "all", *LIBRARIES, "config")
Faulty = tuple[tuple[Any, ...], str]  # the keys that lead to it, and what is wrong


def is_task_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def from_anywhere(name: str) -> str:
    """A task's name such that a saved config finds it from any folder.

    >>> from_anywhere("movies"), Path(from_anywhere("reviews.yaml")).is_absolute()
    ('movies', True)
    """
    return str(Path(name).absolute()) if is_task_file(name) else name


def read_task(path: Path) -> Task:
    """A task from a YAML file; its data files are named relative to it.

    Raises:
        UserError: names the file, the line and the key at fault.
    """
    task, faults = parse_task(path)
    if faults or task is None:
        raise faults[0]
    return task


def parse_task(path: Path) -> tuple[Task | None, list[Fault]]:
    """What the sound keys of a task file say, and every fault of the others.

    Returns:
        No task where its source or its template is at fault.

    Raises:
        UserError: the file is no YAML.
    """
    found, lines = read_yaml(path), _lines(path)
    faults, wrong = [], set()
    for keys, reason in _faults(path.stem, found):
        wrong.update(keys[:1])
        known = next(keys[:depth] for depth in range(len(keys), -1, -1) if keys[:depth] in lines)
        where = f"{path}:{lines[known]}" if known else str(path)
        faults.append(Fault("faulty task file", where, reason))
    sound = {key: value for key, value in found.items() if key not in wrong}
    try:
        return (_task(path, sound) if {"source", "template"} <= sound.keys() else None), faults
    except UserError as error:  # the keys are sound, and do not go together
        return None, faults or [Fault("faulty task file", str(path), str(error))]


def _lines(path: Path) -> dict[tuple[Any, ...], int]:
    """The line of each key, by the keys that lead to it."""
    lines: dict[tuple[Any, ...], int] = {(): 1}
    for key, value in YAML(typ="safe", pure=True).compose(path.read_text(encoding="utf-8")).value:
        lines[key.value,] = key.start_mark.line + 1
        if value.id == "mapping":
            lines |= {(key.value, inner.value): inner.start_mark.line + 1 for inner, _ in value.value}
    return lines


def _faults(name: str, found: Mapping[Any, Any]) -> Iterator[Faulty]:
    checks = {"source": _source_faults, "metric": _metric_faults, "verbalizer": _verbalizer_faults}
    for key, value in found.items():
        if key not in KEYS:
            yield (key,), f"unknown key '{key}'; {nearest(str(key), KEYS)}"
        elif not isinstance(value, KEYS[key]):
            wanted = {str: "a text", dict: "a mapping", list: "a list"}
            yield (key,), f"{key} must be {' or '.join(wanted[kind] for kind in KEYS[key])}, not {value!r}"
        elif key == "template":
            yield from _template_faults(name, value)
        elif key == "scoring" and value not in get_args(Scoring):
            yield (key,), f"scoring is '{value}'; {' and '.join(get_args(Scoring))} are known"
        elif key in checks:
            yield from checks[key](name, value)
    for key in ("source", "template"):
        if key not in found:
            yield (), f"missing key '{key}'"


def _refused(name: str, keys: tuple[Any, ...], **part: Any) -> Iterator[Faulty]:
    """What a task has against one of its parts, the others being sound."""
    parts: dict[str, Any] = {"template": "{text}"} | part
    try:
        Task(name, Files({}), **parts)
    except UserError as error:
        yield keys, str(error)


def _template_faults(name: str, value: str | dict[Any, Any]) -> Iterator[Faulty]:
    templates = value if isinstance(value, dict) else {"": value}
    if not templates:
        yield ("template",), "template: it names none"
    for key, template in templates.items():
        if isinstance(template, str):
            yield from _refused(name, ("template", key), template=template)
        else:
            yield ("template", key), f"template: '{key}' must be a text, not {template!r}"


def _metric_faults(name: str, value: str | list[Any]) -> Iterator[Faulty]:
    metrics = value if isinstance(value, list) else [value]
    if not metrics:
        yield ("metric",), "metric: it names none"
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
    """Labels and words as a record would spell them: YAML reads ``true`` and ``1`` as more than text."""
    return {str(label): str(word) for label, word in verbalizer.items()}


def _task(path: Path, found: Mapping[str, Any]) -> Task:
    """The task of keys that are sound."""
    template, metric = found["template"], found.get("metric", "accuracy")
    templates = template if isinstance(template, dict) else {}
    label = found.get("label", "label")
    return Task(
        name=path.stem,
        source=_source(found["source"], label, path),
        # The first of several is the default.
        template=next(iter(templates.values()), str(template)),
        verbalizer=_words(found.get("verbalizer", {})),
        label=label,
        metrics=tuple(metric) if isinstance(metric, list) else (metric,),
        templates=templates,
        **{key: found[key] for key in ("instruction", "url", "scoring", "group") if key in found},
    )


def _source(source: str | dict[str, str], label: str, path: Path) -> Source:
    """``reviews.csv``, ``{train: a.jsonl, test: b.jsonl}``, or ``{tfds: glue/sst2, train: …}``."""

    def beside(file: str) -> str:
        return file if is_remote(file) else str(path.parent / file)

    if isinstance(source, str):
        return Files({"all": beside(source)}, label)
    splits = {split: name for split, name in source.items() if split in (*SPLITS, "all")}
    same = {split: split for split in SPLITS}
    if "tfds" in source:
        return Tfds(source["tfds"], splits or same, label=label)
    if "hub" in source:
        return Hub(source["hub"], splits or same, source.get("config", ""), label)
    if "saved" in source:
        return Saved(beside(source["saved"]), splits, label)
    return Files({split: beside(file) for split, file in splits.items()}, label)
