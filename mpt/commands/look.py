"""Commands that show the content of a run, of a bank of prompts, or of tasks."""

from __future__ import annotations

from typing import Annotated

import tyro

from mpt.commands import Command
from mpt.commands.options import OutOption, RunArgument, RunArguments
from mpt.errors import UserError


def inspect(rest: list[str]) -> None:
    """Show what a run's prompts say, how alike they are, and which of their vectors matter."""
    from mpt.insight.summary import print_summary
    from mpt.recipes.inspect import inspect
    from mpt.system.paths import run_path

    def arguments(
        run: RunArgument,
        rows: int = 64,
        targets: tuple[str, ...] = (),
        out: OutOption = "",
    ) -> None:
        """Show what a run's prompts say, how alike they are, and which of their vectors matter.

        Args:
            run: run directory of `pretrain`, `adapt` or `import`.
            rows: number of examples of each task to try the prompts on; with 0, everything that needs
                examples is left out.
            targets: further tasks (names or files) to try all prompts on. Name a task of the run here if its
                data is not on this machine.
            out: the page to write; RUN/inspect.html if left out.
        """
        folder = run_path(run)
        page = run_path(out) if out else folder / "inspect.html"
        print_summary(inspect(folder, rows, targets, page))
        print(f"Page in {page}")

    tyro.cli(arguments, args=rest, prog="mpt inspect")


def report(rest: list[str]) -> None:
    """Write a run's report.html anew, from what its directory holds by now."""
    from mpt.report.run_report import report
    from mpt.system.paths import run_path

    def arguments(run: RunArgument) -> None:
        """Write a run's report.html anew, from what its directory holds by now.

        Args:
            run: run directory of `pretrain`, `adapt`, `compare`, `continual` or `import`.
        """
        print(f"Page in {report(run_path(run))}")

    tyro.cli(arguments, args=rest, prog="mpt report")


def bank(rest: list[str]) -> None:
    """Keep prompts in one place, and find which of them a new task starts from: add, list, search."""
    app = tyro.extras.SubcommandApp()

    @app.command
    def add(run: RunArguments, bank: str = "bank") -> None:
        """Put the prompts of runs into a bank.

        Args:
            run: run directories of `pretrain`, `adapt` or `import`.
            bank: a folder, or a URL such as gs://bucket/bank or hf://owner/name.
        """
        from mpt.prompts.bank import Bank
        from mpt.recipes.bank import add
        from mpt.system.paths import finished_run

        if not run:
            raise UserError("bank: name at least one run directory")
        for name, new in (each for folder in run for each in add(finished_run(folder), Bank(bank))):
            print(f"{bank}/{name}{'' if new else ' (there already)'}")

    @app.command
    def list(bank: str = "bank") -> None:
        """List the prompts of a bank.

        Args:
            bank: a folder, or a URL such as gs://bucket/bank or hf://owner/name.
        """
        from mpt.prompts.bank import Bank
        from mpt.recipes.bank import print_list

        print_list(Bank(bank))

    @app.command
    def search(
        task: Annotated[str, tyro.conf.Positional],
        bank: str = "bank",
        model: str = "",
        shots: int = 16,
        steps: int = 8,
        seed: int = 0,
        max_length: int = 96,
    ) -> None:
        """Rank a bank's prompts as starts for a new task, and say which to start from.

        Args:
            task: task name or file.
            bank: a folder, or a URL such as gs://bucket/bank or hf://owner/name.
            model: the backbone; if left out, that of the bank's prompts.
            shots: number of training examples per class to try prompts on; the examples are those that
                `mpt adapt` draws with the same seed.
            steps: number of steps of prompt tuning for the task's own prompt, with which the prompts of the
                bank are compared.
            seed: random seed of the examples.
            max_length: maximum number of tokens of an input.
        """
        from mpt.prompts.bank import Bank
        from mpt.recipes.bank_search import print_found, search

        found = search(Bank(bank), task, model, shots, steps, seed, max_length)
        print_found(Bank(bank), task, found)

    app.cli(args=rest, prog="mpt bank", description=bank.__doc__)


def tasks(rest: list[str]) -> None:
    """List the tasks, show one's examples, or check a task file and its data: list, show, check."""
    app = tyro.extras.SubcommandApp()

    @app.command(is_default=True)
    def list() -> None:
        """List the packaged tasks."""
        from mpt.recipes.show import list_tasks

        list_tasks()

    @app.command
    def show(
        task: Annotated[str, tyro.conf.Positional],
        split: str = "train",
        rows: int = 3,
        model: str = "",
        max_length: int = 128,
    ) -> None:
        """Show how a task's examples read.

        Args:
            task: task name or file.
            split: train, validation or test.
            rows: number of examples to show.
            model: count tokens with the tokenizer of this model, and show what is cut; if left out, tokens
                are not counted.
            max_length: maximum number of tokens of an input, with --model.
        """
        from mpt.recipes.show import show_task

        show_task(task, split, rows, model, max_length)

    @app.command
    def check(task: Annotated[str, tyro.conf.Positional], model: str = "") -> None:
        """Check a task file and all its data: every fault, then a table of the splits.

        Args:
            task: task file or name.
            model: check also that this model can read the class words and tell them apart.
        """
        from mpt.recipes.check_task import check_task

        check_task(task, model)

    app.cli(args=rest, prog="mpt tasks", description=tasks.__doc__)


COMMANDS: dict[str, Command] = {
    "inspect": inspect,
    "report": report,
    "bank": bank,
    "tasks": tasks,
}
