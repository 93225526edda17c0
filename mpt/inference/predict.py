"""Uses a trained prompt: scores it on labelled rows, and predicts for new ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mpt.cards.card import Card
from mpt.catalog.library import find_task, task_of_run
from mpt.config.ranges import refuse_outside
from mpt.data.batches import check_texts
from mpt.data.files import (
    Line,
    has_header,
    is_table,
    numbered,
    parse_line,
    read_lines,
    read_rows,
    unreadable,
)
from mpt.data.records import MISSING, Blank, Fault, Record
from mpt.data.splits import SPLITS
from mpt.data.task import Example, Task
from mpt.data.tokenise import class_tokens, warn_of_cut, warn_of_long_targets
from mpt.errors import PartlyDone, UserError, nearest
from mpt.inference.evaluate import choice_probabilities, grade, predictions, written
from mpt.inference.run_prompts import prompt_file, read_config
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.models.backbone import check_positions
from mpt.prompts import MultitaskPrompt
from mpt.prompts.class_head import HeadedPrompt, headed
from mpt.prompts.prompted import Prompted, joined
from mpt.prompts.saved import load_prompt
from mpt.prompts.source import for_tasks, reads_instructions
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.rundir.found import needs_task
from mpt.system.paths import AnyPath
from mpt.types import Row

CHUNK = 256  # lines that are read before their predictions are written
OF_A_FILE = ("unreadable file", "faulty header")  # kinds of faults
Input = Record | Fault | Blank


class Ready(NamedTuple):
    """A trained prompt that is loaded with its backbone.

    Attributes:
        pretrained: the backbone and its tokenizer; texts begin as the prompt was trained to see them.
        model: the backbone with all prompts of the run.
        prompt_index: the index of the prompt for ``task``.
        task: the task.
        max_length: maximum number of tokens of an input.
    """

    pretrained: Pretrained
    model: Prompted
    prompt_index: int
    task: Task
    max_length: int

    def encode(self, examples: Sequence[Example]) -> list[Row]:
        """Tokenises examples as the backbone reads them."""
        return list(headed(self.model.prompt, self.pretrained.encode(examples, self.max_length)))

    def unlabelled(self, record: Record) -> Example:
        """The example of a new record, which has no label."""
        # Any target will do, because only the input is read.
        return self.task.example(record, next(iter(self.task.verbalizer.values()), ""))


def open_run(
    run: AnyPath, task: str | Task = "", index: int = 0, pretrained: Pretrained | None = None
) -> Ready:
    """Loads the prompt of a run for one task.

    Args:
        run: the run directory of `adapt` or `pretrain`.
        task: the task, its name or its file; it may be left out if the run has only one. For a task that a
            universal prompt was not trained on, the prompt is the initial one of an adaptation.
        index: the index of an adaptation's prompt; there is one per seed.
        pretrained: the run's backbone, if it is loaded already.

    Raises:
        UserError: the run has no finished prompt, none for that task, or one for another backbone.
    """
    model_config, config = read_config(run)
    name, prompt_index = prompt_file(run, config, index)
    load_prompt(run, name)  # so that a missing prompt is reported before the backbone is loaded
    pretrained = pretrained or load_pretrained(**asdict(model_config))
    prompt, card = load_prompt(run, name, pretrained)
    pretrained = pretrained.beginning(card.bos_rule)
    if not task and len(card.templates) > 1:
        raise UserError(needs_task(run, card.templates))
    wanted = _task(task, card)
    known = wanted.name in card.templates
    if known and card.task(wanted.name).place != wanted.place:
        raise UserError(f"{run}: trained with the prompt of {wanted.name} in another place; leave task out")
    pretrained = pretrained.placing([wanted], card.opening if known else None)
    backbone = pretrained.backbone
    if name != "universal":
        if len(card.templates) > 1 and wanted.name in card.prompts:  # the targets of one seed
            prompt_index = card.prompts.index(wanted.name)
        if wanted.name not in card.prompts:
            raise UserError(f"{run}: adapted to {card.prompts[0]}, not to {wanted.name}; adapt to it first")
        if not 0 <= prompt_index < len(card.prompts):
            raise UserError(f"{run}: no prompt {index}; it has {len(card.prompts)}, one per seed, from 0")
    elif wanted.name in card.prompts and not reads_instructions(prompt):
        prompt_index = card.prompts.index(wanted.name)
    else:
        assert isinstance(prompt, MultitaskPrompt | UniversalPrefix)
        prompt, prompt_index = for_tasks(prompt, [wanted], pretrained), 0
    if isinstance(prompt, HeadedPrompt):
        _check_classes(run, wanted, card)
    pretrained.check_words(wanted)
    model = joined(prompt, backbone)
    words = class_tokens(wanted.choices, pretrained.tokenizer, backbone.layout, wanted.chat)
    check_positions(backbone, model.prompt.extent(1)[1], card.max_length, words)
    return Ready(pretrained, model, prompt_index, wanted, card.max_length)


def _task(task: str | Task, card: Card) -> Task:
    """The task of that name, from the prompt's card if it is there; without a name, the card's only task."""
    if isinstance(task, Task):
        return task
    if task:
        return card.task(task) if task in card.templates else find_task(task)
    return card.task(next(iter(card.templates)))


def _check_classes(run: AnyPath, task: Task, card: Card) -> None:
    """Refuses other classes than a class head was trained on, which knows them by their places."""
    trained_on = card.templates[task.name]["verbalizer"]
    if [*trained_on.items()] != [*task.verbalizer.items()]:
        raise UserError(
            f"{run}: its class head was trained on the labels {', '.join(trained_on)}, in this order, and "
            f"their words; task {task.name} has {', '.join(task.verbalizer)} now: adapt to it again"
        )


def evaluate(run: AnyPath, task: str, split: str, rows: int, index: int) -> dict[str, Any]:
    """Scores a run on ``rows`` examples of a split, or on all for 0, by the task's metrics."""
    ready = open_run(run, task, index)
    return scored(ready, with_data(ready.task, run), split, rows)


def scored(ready: Ready, task: Task, split: str, count: int) -> dict[str, Any]:
    """Scores a loaded prompt on ``count`` examples of a split, or on all for 0, by the task's metrics."""
    if split not in SPLITS:
        raise UserError(f"evaluate: no split '{split}'; {nearest(split, SPLITS)}")
    refuse_outside("rows", count)
    examples = task.sample(split, count)
    tokenizer = ready.pretrained.tokenizer
    encoded = ready.encode(examples)
    warn_of_cut(f"{split} rows of task {task.name}", [row.lost for row in encoded], ready.max_length)
    warn_of_long_targets(task, split, encoded)
    check_texts(encoded, ready.model.backbone.layout, f"task {task.name}: a {split} row")
    texts = predictions(ready.model, task, encoded, tokenizer, ready.prompt_index)
    return {"task": task.name, "split": split, "rows": len(examples), **grade(task, examples, texts)}


def with_data(task: Task, run: AnyPath) -> Task:
    """The task with its data: a prompt's card has none, so the task is looked up in the run's config.

    Its wording stays that of the card, which the prompt was trained with.
    """
    return task if task.source.stored_splits else replace(task, source=task_of_run(run, task.name).source)


def predict(
    ready: Ready, lines: Iterable[str], where: str, strict: bool = False, at_once: int = CHUNK
) -> Iterator[str]:
    """Yields one JSON line per input line: the label and the probability of each label, or a text.

    The n-th answer is the n-th line's: a blank one is answered by null, and one that cannot be read by an
    object with ``error`` and the number of the ``line``.

    Args:
        lines: JSON objects with the columns of the template; or plain texts, if it has only one column.
        where: the name of the input in error messages.
        strict: whether to check all lines before the first answer.
        at_once: lines that are read before their answers are written.

    Raises:
        PartlyDone: some lines have no answer; it is raised after the last.
        UserError: if strict, the first line that cannot be read.
    """
    return _answered(ready, _inputs(ready.task, numbered(where, lines)), strict, OF_A_FILE, at_once)


def predict_file(ready: Ready, path: Path, strict: bool = False) -> Iterator[str]:
    """Yields one JSON line per row of a JSONL, CSV, TSV or Parquet file, or per line of another.

    Raises:
        PartlyDone: as ``predict`` does.
        UserError: the file or its header cannot be read; or if strict, one of its rows.
    """
    of_all = (*OF_A_FILE, MISSING) if has_header(path) else OF_A_FILE
    rows = read_rows(path) if is_table(path) else _inputs(ready.task, read_lines(path))
    return _answered(ready, rows, strict, of_all)


def _answered(
    ready: Ready, inputs: Iterator[Input], strict: bool, of_all: tuple[str, ...], at_once: int = CHUNK
) -> Iterator[str]:
    """Yields the answer to each input.

    Args:
        of_all: how the kinds of faults begin that no row is free of: the first of them ends the answers.
    """
    chunks = iter(lambda: [_as_read(ready, each) for each in islice(inputs, at_once)], [])
    if strict:
        chunks = list(chunks)
        for _, fault in (each for chunk in chunks for each in chunk):
            if isinstance(fault, UserError):
                raise fault
    lost, faults = [], []
    for chunk in chunks:
        rows = [row for _, row in chunk if isinstance(row, Row)]
        lost += [row.lost for row in rows]
        answers = iter(_answers(ready, rows))
        for where, row in chunk:
            if isinstance(row, Fault) and row.kind.startswith(of_all):
                raise row
            if isinstance(row, UserError):
                faults.append(row)
            yield json.dumps(_error(where, row) if isinstance(row, UserError) else row and next(answers))
    warn_of_cut("inputs", lost, ready.max_length)
    if faults:
        count = "1 line has" if len(faults) == 1 else f"{len(faults):,} lines have"
        raise PartlyDone(f"{count} an error for an answer, the first of them: {faults[0]}")


def _as_read(ready: Ready, given: Input) -> tuple[str, Row | UserError | None]:
    """Where an input stands, and what the model reads of it: nothing of a blank one; or why it cannot."""
    if not isinstance(given, Record):
        return given.where, given if isinstance(given, Fault) else None
    try:
        return given.where, _rows(ready, [given])[0]
    except UserError as error:
        return given.where, error


def _error(where: str, error: UserError) -> dict[str, Any]:
    """The answer to a line that cannot be read; a Parquet file's rows are numbered in place of lines."""
    return {"error": str(error), "line": int(re.findall("[0-9]+", where)[-1])}


def predicted(ready: Ready, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Predicts for each record: the label and the probability of each label, or a text."""
    rows = _rows(ready, records)
    warn_of_cut("inputs", [row.lost for row in rows], ready.max_length)
    return _answers(ready, rows)


def _rows(ready: Ready, records: Sequence[Record]) -> list[Row]:
    """Records as the model reads them; refuses one of which nothing is left to read."""
    rows = ready.encode([ready.unlabelled(record) for record in records])
    for record, row in zip(records, rows):
        check_texts([row], ready.model.backbone.layout, record.where)
    return rows


def _answers(ready: Ready, rows: Sequence[Row]) -> list[dict[str, Any]]:
    _, model, prompt_index, task, _ = ready
    if not rows:
        return []
    if task.choices:
        probabilities = choice_probabilities(model, rows, prompt_index)
        return [classified(task, of_row.tolist()) for of_row in probabilities]
    texts = written(model, task, rows, ready.pretrained.tokenizer, prompt_index)
    return [{"prediction": text} for text in texts]


def classified(task: Task, probabilities: Iterable[float]) -> dict[str, Any]:
    """The likeliest label, and the probability of each label, from the probabilities of the choices."""
    by_label = {label: float(p) for label, p in zip(task.verbalizer, probabilities)}
    likeliest = max(by_label, key=by_label.__getitem__)  # before rounding, which makes ties
    return {"prediction": likeliest, "probabilities": {label: round(p, 6) for label, p in by_label.items()}}


def _inputs(task: Task, lines: Iterable[Line | Fault]) -> Iterator[Input]:
    """Lines of JSON or bare text as the records that they stand for."""
    column, *others = task.columns
    for line in lines:
        if isinstance(line, Fault):
            yield line
            continue
        where, text = line
        if not text.strip():
            yield Blank(where)
        elif fault := unreadable(where, text):
            yield fault
        elif text.lstrip().startswith("{"):
            yield parse_line(where, text)
        elif others:
            needed = f"task {task.name} needs {', '.join(task.columns)}; give a JSON object"
            yield Fault("not an object", where, needed)
        else:
            yield Record(where, {column: text})
