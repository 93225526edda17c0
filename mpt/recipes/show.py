"""Tasks on the screen: which there are, and how their examples read."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpt.data.library import find_task, packaged_tasks
from mpt.errors import UserError


def list_tasks() -> None:
    """Prints all packaged tasks."""
    table = Table("task", "kind", "metric", "data")
    for name, task in packaged_tasks().items():
        kind = f"{len(task.choices)} classes" if task.choices else "text"
        table.add_row(name, kind, task.metric, str(task.source))
    Console().print(table)


def show_task(name: str, split: str, rows: int) -> None:
    """Prints the first examples of a task: the template plain, the record's fields in colour."""
    if rows < 1:
        raise UserError(f"tasks: --rows is {rows}; it must be at least 1")
    task, console = find_task(name), Console()
    examples = task.examples(split)
    console.print(f"{task.name}: {len(examples):,} {split} examples from {task.source}")
    if task.instruction:
        console.print(f"Instruction: {task.instruction.strip()}", highlight=False)
    for number, example in enumerate(examples[:rows], start=1):
        text = Text(example.inputs)
        for value in example.fields.values():
            text.highlight_words([value], "cyan")
        console.rule(f"{number}")
        console.print(text, Text(example.target, "bold green"))
