"""Prints the list of tasks, and examples of a task."""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import islice
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mpt.catalog.library import find_task, packaged_tasks
from mpt.data.sources import Packaged
from mpt.data.task import Example, Task
from mpt.errors import UserError
from mpt.render.console import PathText, print_table

PROMPT, FIELD, TARGET = "magenta", "cyan", "bold green"


def list_tasks() -> None:
    """Prints all packaged tasks, those first whose data comes with a Python package."""
    at_once, fetched = [], []
    for task in packaged_tasks().values():
        (at_once if isinstance(task.source, Packaged) else fetched).append(task)
    console = Console(markup=False, highlight=False)
    for title, tasks in (
        ("Available at once: the data is in small Python packages, which mpt downloads", at_once),
        ("Downloaded from the data's host at first use", fetched),
    ):
        print_table(console, _tasks_table(title, tasks))


def _tasks_table(title: str, tasks: Sequence[Task]) -> Table:
    names = Column("task", no_wrap=True), Column("kind", no_wrap=True), "metric"
    table = Table(*names, "data", title=title, box=SIMPLE, pad_edge=False)
    for task in tasks:
        kind = f"{len(task.choices)} classes" if task.choices else "text"
        table.add_row(task.name, kind, ", ".join(task.metrics), PathText(str(task.source)))
    return table


def show_task(name: str, split: str, rows: int, model: str = "", max_length: int = 128) -> None:
    """Prints the first examples of a task: instruction, input and target, each in its colour.

    Args:
        model: whose tokens to count, and to cut to ``max_length``; none where left out.
    """
    if rows < 1:
        raise UserError(f"tasks: --rows is {rows}; it must be at least 1")
    task, console = find_task(name), Console(highlight=False)
    fitted = fitter(task, model, max_length) if model else None
    examples = list(islice(task.examples(split), rows))
    console.print(f"{task.name}: the first {len(examples)} {split} examples of {task.source}", markup=False)
    if task.instruction:
        console.print(Text(task.instruction.strip(), PROMPT))
    for number, example in enumerate(examples, start=1):
        console.rule(f"{number}")
        console.print(rendered(example), Text(example.target, TARGET))
        if fitted:
            console.print(fitted(example))


def rendered(example: Example) -> Text:
    """The input: the template's own words plain, the record's fields in colour."""
    text = Text()
    for words, name, _, _ in string.Formatter().parse(example.template):
        text.append(words)
        if name is not None:
            text.append(example.fields[name], FIELD)
    return text


def fitter(task: Task, model: str, max_length: int) -> Callable[[Example], Text]:
    """Makes a function that shows an example as a model's input: the text with special tokens, and what is
    truncated.

    The tokens that carry loss have the target's colour.
    """
    from mpt.data.text.chat import check_chat
    from mpt.data.tokenise import encode, first_token, opening_of  # these bring JAX, which takes seconds
    from mpt.loading.hf import load_tokenizer

    if max_length < 1:
        raise UserError(f"tasks: --max-length is {max_length}; it must be at least 1")
    tokenizer, layout = load_tokenizer(model)
    bos = first_token(tokenizer, "auto")
    if task.chat:
        check_chat(task.name, tokenizer, layout)
    opening = opening_of([task], tokenizer, layout, bos)
    front = list(opening.tokens) if opening else []

    def told(example: Example) -> Text:
        whole, row = (
            encode([example], tokenizer, most, layout, bos=bos, opening=opening)[0]
            for most in (sys.maxsize, max_length)
        )
        ids, kept = list(whole.inputs), list(row.inputs)
        text = Text(f"{len(front) + len(ids)} tokens")
        if len(front) + len(ids) > max_length:
            changes = SequenceMatcher[Any](None, ids, kept, autojunk=False).get_opcodes()
            lost = [ids[start:end] for kind, start, end, _, _ in changes if kind != "equal"]
            text.append(f"; to fit {max_length}, it loses: ")
            text.append(" … ".join(str(tokenizer.decode(ids)) for ids in lost if ids), "red strike")
        text.append("\nas the model reads it: ")
        text.append(str(tokenizer.decode(front)) if front else "")
        text.append("[prompt]", PROMPT)
        read = str(tokenizer.decode(kept))
        text.append(read)
        if layout == "encoder-decoder":
            text.append(" → ")
            text.append(str(tokenizer.decode(list(row.targets))), TARGET)
        else:  # alone, a target would lose the blank that some tokenizers begin it with
            text.append(str(tokenizer.decode([*kept, *row.targets])).removeprefix(read), TARGET)
        return text

    return told
