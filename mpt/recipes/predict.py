"""A trained prompt at work: scores on labelled rows, predictions for new ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mpt.config import ModelConfig, from_plain, read_yaml
from mpt.data.batches import Row, encode
from mpt.data.library import find_task
from mpt.data.sources import Record
from mpt.data.task import Example, Task
from mpt.errors import UserError
from mpt.evaluate import choice_probabilities, score, written
from mpt.models.hf import Pretrained, load_pretrained
from mpt.models.prompted import Prompted
from mpt.prompts import MultitaskPrompt
from mpt.prompts.saved import Card, has_prompt, load_prompt

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


def open_run(run: Path, task: str = "", index: int = 0) -> Ready:
    """Loads the prompt of a run for one task.

    Args:
        run: the run directory of `adapt` or `pretrain`.
        task: the task's name or file; may be left out if the run knows only one. A task that a
            universal prompt has not seen gets the start of an adaptation.
        index: which of an adaptation's prompts, one per seed.

    Raises:
        UserError: the run holds no finished prompt, or none for that task.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: no run directory (it has no config.yaml)")
    model_config = from_plain(ModelConfig, read_yaml(run / "config.yaml").get("model", {}), str(run))
    name = "adapted" if has_prompt(run, "adapted") else "universal"
    load_prompt(run, name)  # a missing prompt is told before the backbone is loaded
    pretrained = load_pretrained(**asdict(model_config))
    prompt, card = load_prompt(run, name, pretrained)
    if not task and len(card.templates) > 1:
        raise UserError(f"{run}: it knows {', '.join(card.templates)}; name one with --task")
    wanted = _task(task, card)
    if name == "adapted":
        if wanted.name not in card.prompts:
            raise UserError(f"{run}: adapted to {card.prompts[0]}, not to {wanted.name}; adapt to it first")
        if not 0 <= index < len(card.prompts):
            raise UserError(f"{run}: no prompt {index}; it has {len(card.prompts)}, one per seed, from 0")
    elif wanted.name in card.prompts:
        index = card.prompts.index(wanted.name)
    else:
        assert isinstance(prompt, MultitaskPrompt)
        prompt, index = prompt.for_targets(1), 0
    return Ready(pretrained, Prompted(pretrained.backbone, prompt), index, wanted, card.max_length)


def _task(name: str, card: Card) -> Task:
    """The named task with its data, or the prompt's only one without."""
    if name:
        return card.task(name) if name in card.templates else find_task(name)
    return card.task(next(iter(card.templates)))


def evaluate(run: Path, task: str, split: str, rows: int, index: int) -> dict[str, Any]:
    """The task's metric on a split, with what it was found on."""
    ready = open_run(run, task, index)
    known = find_task(task) if task else _with_data(ready.task, run)
    examples = known.examples(split)
    order = np.random.default_rng(0).permutation(len(examples))[: rows or len(examples)]
    encoded = ready.encode([examples[i] for i in order])
    value = score(ready.model, known, encoded, ready.pretrained.tokenizer, ready.place)
    return {"task": known.name, "split": split, "rows": len(encoded), known.metric: value}


def _with_data(task: Task, run: Path) -> Task:
    """The task of an adaptation, read again from where its config says."""
    return find_task(str(read_yaml(run / "config.yaml")["task"]))


def predict(ready: Ready, lines: Iterable[str], where: str) -> Iterator[str]:
    """One JSON line per input line: a label and each label's probability, or a text.

    Args:
        lines: JSON objects with the template's columns; or, if the template has one column, that
            column's bare text.
        where: the input's name, for error messages.

    Raises:
        UserError: a line is neither, or lacks a column.
    """
    _, model, place, task, _ = ready
    numbered = ((f"{where}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip())
    # A new row has no target: any will do, as only the input is read.
    target = next(iter(task.verbalizer.values()), "")
    while chunk := list(islice(numbered, CHUNK)):
        rows = ready.encode([task.example(_record(task, line, at), target) for at, line in chunk])
        if task.choices:
            for shares in choice_probabilities(model, rows, place, task.scoring):
                found = {label: round(float(p), 6) for label, p in zip(task.verbalizer, shares)}
                yield json.dumps({"prediction": max(found, key=found.__getitem__), "probabilities": found})
        else:
            for text in written(model, rows, ready.pretrained.tokenizer, place):
                yield json.dumps({"prediction": text})


def _record(task: Task, line: str, where: str) -> Record:
    if line.lstrip().startswith("{"):
        try:
            return Record(where, json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON: {error.msg} (column {error.colno})") from None
    column, *others = task.columns
    if others:
        raise UserError(f"{where}: task {task.name} needs {', '.join(task.columns)}; give a JSON object")
    return Record(where, {column: line.rstrip("\n")})
