"""A trained prompt at work: scores on labelled rows, predictions for new ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mpt.catalog.library import find_task, sequence
from mpt.config.options import ModelConfig
from mpt.config.yaml_file import from_plain, read_yaml
from mpt.data.files import parse_line
from mpt.data.records import Fault, Record
from mpt.data.task import Example, Task
from mpt.data.tokenise import encode
from mpt.errors import UserError
from mpt.inference.evaluate import choice_probabilities, grade, predictions, written
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.methods import METHODS
from mpt.models.lora import Lora
from mpt.prompts import MultitaskPrompt, Prompt, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import Card, has_prompt, load_prompt
from mpt.prompts.source import for_tasks
from mpt.system.paths import AnyPath
from mpt.types import Row

CHUNK = 256  # lines read before their predictions are written


class Ready(NamedTuple):
    """Prompts behind their backbone, and the place of the one for ``task``."""

    pretrained: Pretrained
    model: Prompted
    place: int
    task: Task
    max_length: int

    def encode(self, examples: Sequence[Example]) -> list[Row]:
        layout = self.pretrained.backbone.layout
        return encode(examples, self.pretrained.tokenizer, self.max_length, layout)

    def unlabelled(self, record: Record) -> Example:
        """A new row as text."""
        # It has no target: any will do, as only the input is read.
        return self.task.example(record, next(iter(self.task.verbalizer.values()), ""))


def open_run(
    run: AnyPath, task: str | Task = "", index: int = 0, pretrained: Pretrained | None = None
) -> Ready:
    """Loads the prompt of a run for one task.

    Args:
        run: the run directory of `adapt` or `pretrain`.
        task: the task, its name or its file; may be left out if the run knows only one. A task that a
            universal prompt has not seen gets the start of an adaptation.
        index: which of an adaptation's prompts, one per seed.
        pretrained: the run's backbone, where it is loaded already.

    Raises:
        UserError: the run holds no finished prompt, or none for that task, or not on that backbone.
    """
    model_config, config = _opened(run)
    name, place = _place(run, config, index)
    load_prompt(run, name)  # a missing prompt is told before the backbone is loaded
    pretrained = pretrained or load_pretrained(**asdict(model_config))
    prompt, card = load_prompt(run, name, pretrained)
    if not task and len(card.templates) > 1:
        raise UserError(f"{run}: it knows {', '.join(card.templates)}; name one with --task")
    wanted, backbone = _task(task, card), pretrained.backbone
    if name != "universal":
        if len(card.templates) > 1 and wanted.name in card.prompts:  # the targets of one seed
            place = card.prompts.index(wanted.name)
        if wanted.name not in card.prompts:
            raise UserError(f"{run}: adapted to {card.prompts[0]}, not to {wanted.name}; adapt to it first")
        if not 0 <= place < len(card.prompts):
            raise UserError(f"{run}: no prompt {index}; it has {len(card.prompts)}, one per seed, from 0")
    elif wanted.name in card.prompts:
        place = card.prompts.index(wanted.name)
    else:
        assert isinstance(prompt, MultitaskPrompt)
        prompt, place = for_tasks(prompt, [wanted], pretrained), 0
    if isinstance(prompt, Lora):
        backbone, prompt = prompt.beside(backbone), SoftPrompt(prompt.vectors[...])
    assert isinstance(prompt, Prompt)
    return Ready(pretrained, Prompted(backbone, prompt), place, wanted, card.max_length)


def _place(run: AnyPath, config: dict[str, Any], index: int) -> tuple[str, int]:
    """The file that holds a run's prompt, and where in it the prompt is."""
    method = METHODS.get(config.get("method", ""))
    if method and method.keep is None:
        raise UserError(f"{run}: {method.title} keeps no model; its figures are in results.json")
    alone = len(list((run / "prompts").glob("adapted-*.safetensors")))
    if has_prompt(run, "adapted") or not alone:
        return "adapted" if has_prompt(run, "adapted") else "universal", index
    if not 0 <= index < alone:
        raise UserError(f"{run}: no prompt {index}; it has {alone}, one per seed, from 0")
    return f"adapted-{index}", 0


def trained(run: AnyPath) -> tuple[ModelConfig, str]:
    """The backbone that a run used, and the name of the prompt that came out.

    Raises:
        UserError: it is no run directory.
    """
    model_config, config = _opened(run)
    return model_config, _place(run, config, 0)[0]


def _opened(run: AnyPath) -> tuple[ModelConfig, dict[str, Any]]:
    """The backbone of a run, and its whole config."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: no run directory (it has no config.yaml)")
    config = read_yaml(run / "config.yaml")
    return from_plain(ModelConfig, config.get("model", {}), str(run)), config


def _task(task: str | Task, card: Card) -> Task:
    """The task, of the card or of elsewhere; the prompt's only one where none is named."""
    if isinstance(task, Task):
        return task
    if task:
        return card.task(task) if task in card.templates else find_task(task)
    return card.task(next(iter(card.templates)))


def evaluate(run: AnyPath, task: str, split: str, rows: int, index: int) -> dict[str, Any]:
    """The task's metric on a split, with what it was found on."""
    ready = open_run(run, task, index)
    return scored(ready, with_data(ready.task, run), split, rows)


def scored(ready: Ready, task: Task, split: str, rows: int) -> dict[str, Any]:
    """The metric of ``rows`` rows of a split, or all for 0, with what it was found on."""
    drawn = task.sample(split, rows)
    found = predictions(ready.model, task, ready.encode(drawn), ready.pretrained.tokenizer, ready.place)
    return {"task": task.name, "split": split, "rows": len(drawn), **grade(task, drawn, found)}


def with_data(task: Task, run: AnyPath) -> Task:
    """A task of a run, which its card tells of, read again from where the run's config says."""
    if task.source.stored_splits:
        return task
    config = read_yaml(run / "config.yaml")
    named = filter(None, [*config.get("tasks", ()), config.get("task"), *config.get("also", ())])
    stem, _, _ = task.name.partition(":")
    likely = [name for name in sequence(list(named)) if Path(name.partition(":")[0]).stem == stem]
    found = (known for known in map(find_task, likely) if known.name == task.name)
    return next(found, None) or find_task(task.name)


def predict(ready: Ready, lines: Iterable[str], where: str) -> Iterator[str]:
    """One JSON line per input line: a label and each label's probability, or a text.

    Args:
        lines: JSON objects with the template's columns; or, if the template has one column, that
            column's bare text.
        where: the input's name, for error messages.

    Raises:
        UserError: a line is neither, or lacks a column.
    """
    numbered = ((f"{where}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip())
    while chunk := list(islice(numbered, CHUNK)):
        records = [_record(ready.task, line, at) for at, line in chunk]
        yield from map(json.dumps, predicted(ready, records))


def predicted(ready: Ready, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each record a label with each label's probability, or a text."""
    _, model, place, task, _ = ready
    if not records:
        return []
    rows = ready.encode([ready.unlabelled(record) for record in records])
    if task.choices:
        found = choice_probabilities(model, rows, place, task.scoring)
        return [classified(task, shares.tolist()) for shares in found]
    return [{"prediction": text} for text in written(model, rows, ready.pretrained.tokenizer, place)]


def classified(task: Task, shares: Iterable[float]) -> dict[str, Any]:
    """The likeliest label, and each label's probability; ``shares`` are those of the choices."""
    found = {label: round(float(p), 6) for label, p in zip(task.verbalizer, shares)}
    return {"prediction": max(found, key=found.__getitem__), "probabilities": found}


def _record(task: Task, line: str, where: str) -> Record:
    if line.lstrip().startswith("{"):
        record = parse_line(where, line)
        if isinstance(record, Fault):
            raise record
        return record
    column, *others = task.columns
    if others:
        raise UserError(f"{where}: task {task.name} needs {', '.join(task.columns)}; give a JSON object")
    return Record(where, {column: line.rstrip("\n")})
