"""Commands that show the content of a run, of a bank of prompts, or of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from mpt.commands import Command, Work
from mpt.commands.options import OutOption, RunArgument, RunArguments, TaskArgument
from mpt.commands.parse import read
from mpt.commands.within import within
from mpt.errors import UserError

BankOption = Annotated[str, tyro.conf.arg(metavar="BANK")]
BANK = "bank"  # where none is named


def inspect(rest: list[str]) -> Work:
    """Show what a run's prompts say, how alike they are, and which of their vectors matter."""

    def arguments(
        run: RunArgument,
        rows: int = 64,
        targets: tuple[str, ...] = (),
        out: OutOption = "",
    ) -> Work:
        """Show what a run's prompts say, how alike they are, and which of their vectors matter.

        Args:
            run: run directory of `pretrain`, `adapt` or `import`.
            rows: number of examples of each task to evaluate the prompts on; with 0, everything that needs
                examples is left out.
            targets: further tasks (names or files) to evaluate all prompts on. Name a task of the run here if
                its data must be downloaded.
            out: the page to write; RUN/inspect.html if left out.
        """
        from mpt.catalog.library import find_tasks
        from mpt.rundir.found import find_trained
        from mpt.system.paths import run_path

        folder = find_trained(run)
        find_tasks("inspect", targets)
        page = run_path(out) if out else folder / "inspect.html"

        def show() -> None:
            from mpt.insight.summary import print_summary
            from mpt.recipes.inspect import inspect

            print_summary(inspect(folder, rows, targets, page))
            print(f"Page in {page}")

        return Work(show, f"inspecting {run}")

    return read(arguments, rest, "mpt inspect")


def report(rest: list[str]) -> Work:
    """Write a run's report.html again, from what its directory contains now."""

    def arguments(run: RunArgument) -> Work:
        """Write a run's report.html again, from what its directory contains now.

        Args:
            run: run directory of `pretrain`, `adapt`, `compare`, `continual` or `import`.
        """
        from mpt.rundir.found import find_run

        folder = find_run(run)

        def write() -> None:
            from mpt.report.run_report import report

            print(f"Page in {report(folder)}")

        return Work(write, f"writing the report of {run}")

    return read(arguments, rest, "mpt report")


def bank(rest: list[str]) -> Work:
    """Keep prompts in one place, and find which of them a new task starts from: add, list, search."""
    commands: dict[str, Command] = {"add": _bank_add, "list": _bank_list, "search": _bank_search}
    return within("bank", bank.__doc__ or "", commands, rest)


def _bank_add(rest: list[str]) -> Work:
    """Put the prompts of runs into a bank."""

    def arguments(run: RunArguments, bank: BankOption = BANK) -> Work:
        """Put the prompts of runs into a bank.

        Args:
            run: run directories of `pretrain`, `adapt` or `import`.
            bank: a folder, or a URL such as gs://bucket/bank or hf://owner/name.
        """
        from mpt.rundir.found import find_trained

        if not run:
            raise UserError("bank: name at least one run directory")
        folders = [find_trained(name) for name in run]
        if Path(bank).is_file():
            raise UserError(f"{bank}: a file; give a folder with --bank")

        def put() -> None:
            from mpt.cards.bank import Bank
            from mpt.recipes.bank import add

            for name, new in (each for folder in folders for each in add(folder, Bank(bank))):
                print(f"{bank}/{name}{'' if new else ' (there already)'}")

        return Work(put, f"adding to {bank}")

    return read(arguments, rest, "mpt bank add")


def _bank_list(rest: list[str]) -> Work:
    """List the prompts of a bank, or of the folder `bank` and of the one that comes with mpt."""

    def arguments(bank: BankOption = "") -> Work:
        """List the prompts of a bank.

        Args:
            bank: a folder, or a URL such as gs://bucket/bank or hf://owner/name, or `packaged`, which comes
                with mpt; if left out, the folder `bank`, if it exists, and `packaged`.
        """
        from mpt.rundir.found import check_bank, holds_prompts
        from mpt.system.paths import PACKAGED

        banks = [bank] if bank else [*[BANK] * holds_prompts(BANK), PACKAGED]
        check_bank(banks[0])

        def show() -> None:
            from mpt.cards.bank import Bank
            from mpt.recipes.bank_list import print_list

            for each in banks:
                print_list(Bank(each))

        return Work(show, f"listing {' and '.join(banks)}")

    return read(arguments, rest, "mpt bank list")


def _bank_search(rest: list[str]) -> Work:
    """Rank a bank's prompts as starts for a new task, and say which to start from."""

    def arguments(
        task: TaskArgument,
        bank: BankOption = BANK,
        model: str = "",
        shots: int = 16,
        steps: int = 8,
        seed: int = 0,
        max_length: int = 96,
    ) -> Work:
        """Rank a bank's prompts as starts for a new task, and say which to start from.

        Args:
            task: task name or file.
            bank: a folder, or a URL such as gs://bucket/bank or hf://owner/name.
            model: the backbone; if left out, that of the bank's prompts.
            shots: number of training examples per class to evaluate prompts on; they are those that
                `mpt adapt` draws with the same seed.
            steps: number of steps of prompt tuning for the task's own prompt, with which the prompts of the
                bank are compared.
            seed: random seed of the examples.
            max_length: maximum number of tokens of an input.
        """
        from mpt.recipes.checks import check_searched
        from mpt.rundir.found import check_bank

        check_bank(bank)
        _check_model(model)
        check_searched(task)

        def find() -> None:
            from mpt.cards.bank import Bank
            from mpt.recipes.bank_search import print_found, search

            found = search(Bank(bank), task, model, shots, steps, seed, max_length)
            print_found(Bank(bank), task, found)

        return Work(find, f"searching {bank} for {task}")

    return read(arguments, rest, "mpt bank search")


def tasks(rest: list[str]) -> Work:
    """List the tasks, show one's examples, or check a task file and its data: list, show, check."""
    commands: dict[str, Command] = {"list": _tasks_list, "show": _tasks_show, "check": _tasks_check}
    return within("tasks", tasks.__doc__ or "", commands, rest, default="list")


def _tasks_list(rest: list[str]) -> Work:
    """List the packaged tasks."""

    def arguments() -> Work:
        """List the packaged tasks."""
        from mpt.recipes.show import list_tasks

        return Work(list_tasks)

    return read(arguments, rest, "mpt tasks list")


def _tasks_show(rest: list[str]) -> Work:
    """Show how a task's examples read."""

    def arguments(
        task: TaskArgument,
        split: Literal["train", "validation", "test"] = "train",
        rows: int = 3,
        model: str = "",
        max_length: int = 128,
    ) -> Work:
        """Show how a task's examples read.

        Args:
            task: task name or file.
            split: the split to read.
            rows: number of examples to show.
            model: show each example as this model's input: with special tokens, the prompt's place, the
                tokens that carry loss, the number of tokens, and what is truncated.
            max_length: maximum number of tokens of an input, with --model.
        """
        from mpt.recipes.show import show_task

        _check_model(model)
        return Work(
            lambda: show_task(task, split, rows, model, max_length),
            f"reading {task} with the tokenizer of {model}" if model else "",
        )

    return read(arguments, rest, "mpt tasks show")


def _tasks_check(rest: list[str]) -> Work:
    """Check a task file and all its data: every fault, then a table of the splits."""

    def arguments(task: TaskArgument, model: str = "") -> Work:
        """Check a task file and all its data: every fault, then a table of the splits.

        Args:
            task: task file or name.
            model: also check that this model's tokenizer can represent and distinguish the class words.
        """
        from mpt.recipes.check_task import check_task

        _check_model(model)
        return Work(lambda: check_task(task, model), f"checking {task} with {model}" if model else "")

    return read(arguments, rest, "mpt tasks check")


def _check_model(name: str) -> None:
    """Refuses a name that cannot be a model, before the libraries load."""
    from mpt.loading.located import check_model

    if name:
        check_model(name)


COMMANDS: dict[str, Command] = {
    "inspect": inspect,
    "report": report,
    "bank": bank,
    "tasks": tasks,
}
