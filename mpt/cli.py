"""The `mpt` command: reads what the user asks for and hands it to a recipe."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from mpt.errors import UserError, nearest
from mpt.quiet import quiet
from mpt.serve.options import ServeOptions
from mpt.signals import Stopped, stops_on_sigterm

# Recipes are imported by the commands that run them, so that `mpt --help` answers at once.

# A folder, or gs://bucket/run, which a `Path` would shorten to gs:/bucket/run.
RunArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
RunArguments = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR...")]
OutOption = Annotated[str, tyro.conf.arg(metavar="PATH")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 2 for a mistake that the user can mend."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments is None and name in TRAINING:
        quiet()
        from mpt.processes import together

        return together(lambda: _run(name, rest))
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    try:
        if name not in COMMANDS:
            raise UserError(f"no command '{name}'; {nearest(name, COMMANDS)}")
        quiet()
        with stops_on_sigterm() if name in (*TRAINING, "continual") else nullcontext():
            COMMANDS[name](rest)
    except UserError as error:
        print(f"mpt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmpt: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except Stopped as stopped:
        print(f"mpt: {stopped}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read our output has closed it: `mpt predict | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"mpt: {place}{error.strerror}; with more room, the same command goes on", file=sys.stderr)
        return 2
    return 0


def quickstart(rest: list[str]) -> None:
    """The main job on a real model and real texts: `compare` with the packaged config."""
    compare(["quickstart", *rest])


def pretrain(rest: list[str]) -> None:
    """Train teacher prompts for source tasks and distil them into a universal prompt."""
    from mpt import config
    from mpt.recipes.pretrain import pretrain

    if resolved := _configured(config.PretrainConfig, "pretrain", rest):
        print(f"Universal prompt in {pretrain(resolved)}/prompts")


def adapt(rest: list[str]) -> None:
    """Adapt a universal prompt to a new task from few examples: --prompt RUN_DIR --task FILE."""
    from mpt import config
    from mpt.data.taskfile import from_anywhere
    from mpt.recipes.adapt import adapt_all

    resolved = _configured(config.AdaptConfig, "adapt", rest)
    if not resolved:
        return
    task, *also = map(from_anywhere, (resolved.task, *resolved.also))
    for result in adapt_all(replace(resolved, task=task, also=tuple(also))):
        for seed, share in zip(resolved.seeds, result.scores):
            rows = f"{result.rows} {resolved.scored} rows"
            print(f"{result.task}, seed {seed}: {result.metric} {share:.4f} on {rows}")
    if resolved.method == "full":
        print(f"Figures in {resolved.out}/result.json; a model that is trained whole is not kept")
    else:
        print(f"Prompt in {resolved.out}/prompts")


def compare(rest: list[str]) -> None:
    """Run every method on every held-out task and print one table."""
    from mpt import config
    from mpt.recipes.compare import compare

    if resolved := _configured(config.CompareConfig, "compare", rest):
        compare(resolved)


def plan(rest: list[str]) -> None:
    """What a run takes on chips that need not be here: memory, time, the best mesh: --topology v5e:4x4."""
    from mpt.config import PretrainConfig
    from mpt.config_file import find_config, kind_of, with_model
    from mpt.recipes.plan import plan

    kind = PretrainConfig
    if rest and not rest[0].startswith("-"):
        kind = kind_of(find_config(rest[0]))
    order = _order(PlanOrder, kind, "plan", rest)
    resolved = with_model(order.config, order.backbone) if order.backbone else order.config
    plan(resolved, order.topology, order.tries, order.patience, order.json)


def continual(rest: list[str]) -> None:
    """Learn tasks one after another by several methods, and measure what is kept and what is lost."""
    from rich.console import Console

    from mpt import config
    from mpt.data.taskfile import from_anywhere
    from mpt.recipes.continual import continual
    from mpt.recipes.continual_report import table

    if resolved := _configured(config.ContinualConfig, "continual", rest):
        results = continual(replace(resolved, tasks=tuple(map(from_anywhere, resolved.tasks))))
        Console().print(table(results))
        print(f"Written to {resolved.out}/results.md, with pictures; each method's prompts are beside it.")


def evaluate(rest: list[str]) -> None:
    """Score a run's prompt on a labelled split."""
    from mpt.paths import run_path
    from mpt.recipes.predict import evaluate

    def arguments(
        run: RunArgument,
        task: str = "",
        split: str = "test",
        rows: int = 0,
        index: int = 0,
    ) -> dict[str, Any]:
        """Score a run's prompt on a labelled split.

        Args:
            run: run directory of `adapt` or `pretrain`.
            task: task name or file; an adaptation's own where left out.
            split: train, validation or test.
            rows: how many rows to take; 0 takes all.
            index: which of an adaptation's prompts, one per seed.
        """
        return evaluate(run_path(run), task, split, rows, index)

    print(json.dumps(tyro.cli(arguments, args=rest, prog="mpt evaluate")))


def predict(rest: list[str]) -> None:
    """Predict for lines of JSON or bare text from a file or standard input, as lines of JSON."""
    from mpt.paths import run_path
    from mpt.recipes.predict import open_run, predict

    def arguments(
        run: RunArgument,
        input: Path | None = None,
        task: str = "",
        index: int = 0,
    ) -> None:
        """Predict for lines of JSON or bare text, as lines of JSON.

        Args:
            run: run directory of `adapt` or `pretrain`.
            input: file of lines; standard input where left out.
            task: task name or file, for a prompt that knows several.
            index: which of an adaptation's prompts, one per seed.
        """
        if input and not input.is_file():
            raise UserError(f"{input}: no such file")
        ready = open_run(run_path(run), task, index)
        with input.open(encoding="utf-8") if input else sys.stdin as lines:
            for line in predict(ready, lines, str(input or "standard input")):
                print(line, flush=True)

    tyro.cli(arguments, args=rest, prog="mpt predict")


def inspect(rest: list[str]) -> None:
    """Show what a run's prompts say, how alike they are, and which of their vectors matter."""
    from mpt.paths import run_path
    from mpt.recipes.inspect import inspect
    from mpt.recipes.summary import print_summary

    def arguments(
        run: RunArgument,
        rows: int = 64,
        targets: tuple[str, ...] = (),
        out: OutOption = "",
    ) -> None:
        """Show what a run's prompts say, how alike they are, and which of their vectors matter.

        Args:
            run: run directory of `pretrain`, `adapt` or `import`.
            rows: of each task, to try the prompts on; 0 for what can be told without any.
            targets: more tasks (names or files) to try all prompts on; also one of the run's own whose
                data is elsewhere now.
            out: the page to write; RUN/inspect.html where left out.
        """
        folder = run_path(run)
        page = run_path(out) if out else folder / "inspect.html"
        print_summary(inspect(folder, rows, targets, page))
        print(f"Page in {page}")

    tyro.cli(arguments, args=rest, prog="mpt inspect")


def report(rest: list[str]) -> None:
    """Write a run's report.html anew, from what its directory holds by now."""
    from mpt.paths import AnyPath, run_path
    from mpt.recipes.report import report

    def arguments(run: RunArgument) -> AnyPath:
        """Write a run's report.html anew, from what its directory holds by now.

        Args:
            run: run directory of `pretrain`, `adapt`, `compare`, `continual` or `import`.
        """
        return report(run_path(run))

    print(f"Page in {tyro.cli(arguments, args=rest, prog='mpt report')}")


def serve(rest: list[str]) -> None:
    """Answer over HTTP for the prompts of runs: completions, classes, health and metrics."""

    def arguments(
        run: RunArguments,
        options: Annotated[ServeOptions, tyro.conf.arg(name="")] = ServeOptions(),  # noqa: B008, it is frozen
    ) -> None:
        """Answer over HTTP for the prompts of runs, which share one backbone.

        Args:
            run: run directories of `adapt`, `pretrain` or `import`.
            options: how it listens, and what it lets in.
        """
        if not run:
            raise UserError("name at least one run directory")
        from mpt.paths import run_path

        try:
            from mpt.serve.server import serve
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is not installed; pip install 'mpt-jax[serve]'") from None
        serve([run_path(name) for name in run], options)

    tyro.cli(arguments, args=rest, prog="mpt serve")


def export(rest: list[str]) -> None:
    """Write a run's prompts for other libraries: --format peft or embeddings."""
    from mpt.interop.exporting import export_run
    from mpt.paths import run_path

    def arguments(
        run: RunArgument,
        format: Literal["peft", "embeddings"] = "peft",
        out: OutOption = "",
    ) -> Any:
        """Write a run's prompts for other libraries.

        Args:
            run: run directory of `adapt`, `pretrain` or `import`.
            format: folders that `peft` loads, or plain arrays with a README.
            out: the folder to write; RUN/peft or RUN/embeddings where left out.
        """
        return export_run(run_path(run), format, run_path(out) if out else None)

    print(f"Prompts in {tyro.cli(arguments, args=rest, prog='mpt export')}")


def import_(rest: list[str]) -> None:
    """Make a run of a prompt that PEFT has trained: FOLDER --model NAME --task TASK."""
    from mpt.interop.importing import import_adapter
    from mpt.paths import run_path

    def arguments(
        folder: Annotated[Path, tyro.conf.Positional],
        model: str,
        task: tuple[str, ...],
        out: OutOption = "runs/import",
        max_length: int = 128,
    ) -> None:
        """Make a run of a prompt that PEFT has trained.

        Args:
            folder: folder of PEFT's, with adapter_config.json and adapter_model.safetensors.
            model: the backbone that the prompt was trained on.
            task: task name or file; for a multitask prompt one for each of its tasks, in their order.
            out: the run directory.
            max_length: most tokens of an input.
        """
        for remark in import_adapter(folder, model, task, run_path(out), max_length):
            print(f"mpt: {remark}", file=sys.stderr)
        print(f"Prompt in {out}/prompts")

    tyro.cli(arguments, args=rest, prog="mpt import")


def bank(rest: list[str]) -> None:
    """Keep prompts in one place, and find which of them a new task starts from: add, list, search."""
    app = tyro.extras.SubcommandApp()

    @app.command
    def add(run: RunArguments, bank: str = "bank") -> None:
        """Put the prompts of runs into a bank.

        Args:
            run: run directories of `pretrain`, `adapt` or `import`.
            bank: a folder, or a URL such as gs://bucket/bank.
        """
        from mpt.interop.bank import Bank
        from mpt.paths import run_path
        from mpt.recipes.bank import add

        if not run:
            raise UserError("bank: name at least one run directory")
        for name, new in (each for folder in run for each in add(run_path(folder), Bank(bank))):
            print(f"{bank}/{name}{'' if new else ' (there already)'}")

    @app.command
    def list(bank: str = "bank") -> None:
        """List the prompts of a bank.

        Args:
            bank: a folder, or a URL such as gs://bucket/bank.
        """
        from mpt.interop.bank import Bank
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
            bank: a folder, or a URL such as gs://bucket/bank.
            model: the backbone; that of the bank's prompts where left out.
            shots: training rows per class to try prompts on, those that `mpt adapt` draws with this seed.
            steps: of prompt tuning, for the task's own prompt that the bank's are compared with.
            seed: draws the rows.
            max_length: most tokens of an input.
        """
        from mpt.interop.bank import Bank
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
            rows: how many examples to show.
            model: count the tokens as this model does, and show what is cut; not counted where left out.
            max_length: most tokens of an input, with --model.
        """
        from mpt.recipes.show import show_task

        show_task(task, split, rows, model, max_length)

    @app.command
    def check(task: Annotated[str, tyro.conf.Positional]) -> None:
        """Check a task file and all its data: every fault, then a table of the splits.

        Args:
            task: task file or name.
        """
        from mpt.recipes.check import check_task

        check_task(task)

    app.cli(args=rest, prog="mpt tasks", description=tasks.__doc__)


def launch(rest: list[str]) -> None:
    """Run a command in several processes on this machine: --processes N -- pretrain CONFIG."""
    from mpt.launch import launch

    behind = rest.index("--") if "--" in rest else len(rest)

    def arguments(processes: int, devices_per_process: int = 0) -> None:
        """Run a command in several processes on this machine; it stands behind --.

        Args:
            processes: how many; the devices of all are one mesh.
            devices_per_process: simulate so many devices on the CPU in each; 0 takes what is there.
        """
        command = rest[behind + 1 :]
        if command[:1] and command[0] not in TRAINING:
            raise UserError(
                f"launch: '{command[0]}' runs in one process; {', '.join(TRAINING)} run in several"
            )
        launch(command, processes, devices_per_process)

    tyro.cli(arguments, args=rest[:behind], prog="mpt launch")


# The commands that run on all processes of a cluster, and go on where they were stopped.
TRAINING = ("quickstart", "pretrain", "adapt", "compare")

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "quickstart": quickstart,
    "pretrain": pretrain,
    "adapt": adapt,
    "compare": compare,
    "plan": plan,
    "continual": continual,
    "evaluate": evaluate,
    "predict": predict,
    "inspect": inspect,
    "report": report,
    "serve": serve,
    "export": export,
    "import": import_,
    "bank": bank,
    "tasks": tasks,
    "launch": launch,
}


Config = TypeVar("Config")


@dataclass(frozen=True)
class Order(Generic[Config]):
    """What a command that trains is given."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the tasks, steps, FLOPs and hours; train, fetch and write nothing."""
    tflops: tuple[float, ...] = ()
    """With --dry-run: rates of other machines to tell the hours at, in TFLOP/s."""


@dataclass(frozen=True)
class PlanOrder(Generic[Config]):
    """What `mpt plan` is given."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    topology: str = ""
    """TPU chips, as in v5e:4x4, v6e:8x8 or v5p:4x4x4; the devices at hand where left out."""
    backbone: str = ""
    """A model in place of the config's; its shape is enough, as of llama-7b and t5-xxl."""
    tries: int = 6
    """Meshes and batches to compile in search of the best, about a minute each."""
    patience: float = 600.0
    """Seconds after which a try is given up."""
    json: Path | None = None
    """A file to write all figures to."""


def _configured(kind: type, command: str, rest: list[str]) -> Any:
    """The config named first, if one is, with the options that follow; None once its plan is printed."""
    order = _order(Order, kind, command, rest)
    if not order.dry_run:
        return order.config
    from mpt.recipes.dry_run import dry_run

    dry_run(order.config, order.tflops)
    return None


def _order(order: Any, kind: type, command: str, rest: list[str]) -> Any:
    """An order with the config named first, if one is, and the options that follow."""
    from mpt.config_file import find_config, load_config

    named = bool(rest) and not rest[0].startswith("-")
    base = load_config(kind, find_config(rest[0])) if named else kind()
    prog = f"mpt {command} {rest[0] if named else '[CONFIG]'}"
    about = COMMANDS[command].__doc__
    return tyro.cli(order[kind], args=rest[named:], default=order(base), prog=prog, description=about)


def _overview() -> str:
    lines = [f"  {name:<12}{command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mpt COMMAND [CONFIG] [OPTIONS]",
            "",
            "Multitask prompt tuning: universal soft prompts that transfer to new tasks.",
            "",
            *lines,
            "",
            "CONFIG is a YAML file, or the name of a packaged one. `mpt COMMAND --help` lists the options;",
            "each option of a config is given by its dotted name, such as --train.steps 40.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
