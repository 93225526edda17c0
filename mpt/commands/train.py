"""Commands that take a config: they train, or predict what training would cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from mpt.commands import Command, Work
from mpt.commands.booleans import as_flags, booleans
from mpt.commands.details import everything
from mpt.commands.help import overview
from mpt.commands.options import check_names, names
from mpt.commands.parse import HELP, parsed, read
from mpt.config.ranges import refuse_outside
from mpt.errors import UserError, nearest, show

# The commands that run on all processes of a cluster, and resume where they were stopped.
TRAINING = ("quickstart", "pretrain", "adapt", "compare", "continual")


Config = TypeVar("Config")


@dataclass(frozen=True)
class Order(Generic[Config]):
    """The options of a command that trains."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    dry_run: bool = False
    """Print the tasks, steps, FLOPs and times without training, downloading or writing anything."""
    tflops: tuple[float, ...] = ()
    """With --dry-run: speeds of other machines in TFLOP/s, for which to print the times as well."""


@dataclass(frozen=True)
class PlanOrder(Generic[Config]):
    """The options of `mpt plan`."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    topology: str = ""
    """TPU chips to plan for, such as v5e:4x4, v6e:8x8 or v5p:4x4x4; if left out, the devices of this
    machine."""
    backbone: str = ""
    """A model to plan with instead of the config's. Its shape is enough, so it can be llama-7b or t5-xxl."""
    tries: int = 6
    """Number of combinations of mesh and batch to compile in search of the best; each takes about a
    minute."""
    patience: float = 600.0
    """Seconds after which the compilation of a combination is given up."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to write all figures to, as JSON."""

    def __post_init__(self):
        refuse_outside("tries", self.tries)
        refuse_outside("patience", self.patience)


def quickstart(rest: list[str]) -> Work:
    """Run the main job on a real model and real texts: `compare` with the packaged config."""
    return compare(["quickstart", *rest])


def pretrain(rest: list[str]) -> Work:
    """Train teacher prompts for source tasks and distil them into a universal prompt."""
    from mpt.config.pretrain import PretrainConfig

    order = _order(Order, PretrainConfig, "pretrain", rest)
    config = replace(order.config, tasks=_from_anywhere(order.config.tasks))

    def run() -> None:
        from mpt.recipes.pretrain import pretrain

        print(f"Universal prompt in {pretrain(config)}/prompts")

    about = f"pretraining on {_few(config.tasks)}, in {config.out}"
    return _work(order, config, run, about)


def adapt(rest: list[str]) -> Work:
    """Adapt a universal prompt to a new task from few examples: --prompt RUN_DIR --task FILE."""
    from mpt.config.methods import AdaptConfig, suited

    order = _order(Order, AdaptConfig, "adapt", rest)
    names = _from_anywhere((order.config.task, *order.config.also))
    config = replace(order.config, task=names[0], also=names[1:])

    def run() -> None:
        from mpt.catalog.library import find_tasks
        from mpt.methods import METHODS
        from mpt.recipes.adapt import adapt_all

        have_classes = all(task.choices for task in find_tasks("adapt", names))

        for result in adapt_all(config):
            for seed, score in zip(config.seeds, result.scores):
                rows = f"{result.rows} {config.scored} rows"
                figure = f"{score:.4f}" if math.isfinite(score) else "undefined"
                print(f"{result.task}, seed {seed}: {result.metric} {figure} on {rows}")
            for remark in result.remarks:
                show(remark)
        if config.baseline:
            show(f"Figures in {config.out}/results.json; a baseline has no prompt to save")
        elif config.method in METHODS and METHODS[config.method].keep is None:
            show(f"Figures in {config.out}/results.json; a fully fine-tuned model is not saved")
        else:
            print(f"Prompt in {config.out}/prompts")
            if suited(config.method, have_classes) == "classifier":
                show("It has a class head, which mpt alone reads; `--method prompt` makes one to export.")

    return _work(order, config, run, f"adapting to {_few(names)}, in {config.out}")


def compare(rest: list[str]) -> Work:
    """Run every method on every held-out task and print one table."""
    from mpt.comparison.config import CompareConfig

    order = _order(Order, CompareConfig, "compare", rest)
    given = order.config
    config = replace(
        given,
        pretrain=replace(given.pretrain, tasks=_from_anywhere(given.pretrain.tasks)),
        targets=_from_anywhere(given.targets),
        tune=replace(given.tune, tasks=_from_anywhere(given.tune.tasks)),
    )

    def run() -> None:
        from mpt.recipes.compare import compare

        compare(config)

    about = f"comparing {len(config.methods)} methods on {_few(config.targets)}, in {config.out}"
    return _work(order, config, run, about)


def plan(rest: list[str]) -> Work:
    """Predict a run's memory, time and best mesh on TPU chips, without having any: --topology v5e:4x4."""
    from mpt.comparison.config import CompareConfig
    from mpt.config.continual import ContinualConfig
    from mpt.config.methods import AdaptConfig
    from mpt.config.pretrain import PretrainConfig
    from mpt.config.yaml_file import find_config, kind_of

    kind, named = PretrainConfig, bool(rest) and not rest[0].startswith("-")
    if named:
        kinds = PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig
        kind = kind_of(find_config(rest[0]), kinds)
    order = _order(PlanOrder, kind, "plan", rest)
    if not named and not order.config.tasks:
        raise UserError("plan: name a config, as in `mpt plan quickstart`, or source tasks with --tasks")
    from mpt.plan.chips import Topology

    if order.topology:
        Topology.of(order.topology).check_installed()
    from mpt.recipes.checks import check, check_files

    check_files(order.config, check(order.config))

    def run() -> None:
        from mpt.recipes.plan import plan, with_model

        resolved = with_model(order.config, order.backbone) if order.backbone else order.config
        plan(resolved, order.topology, order.tries, order.patience, order.json)

    return Work(run, f"planning for {order.topology or 'this machine'}")


def continual(rest: list[str]) -> Work:
    """Learn tasks one after another by several methods, and measure what is forgotten."""
    from mpt.config.continual import ContinualConfig

    order = _order(Order, ContinualConfig, "continual", rest)
    config = replace(order.config, tasks=_from_anywhere(order.config.tasks))

    def run() -> None:
        from rich.console import Console

        from mpt.continual_learning.results import table
        from mpt.recipes.continual import continual
        from mpt.render.console import print_table

        print_table(Console(), table(continual(config)))
        show(f"Written to {config.out}/results.md, with figures; each method's prompts are in that folder.")

    about = f"learning {_few(config.tasks)} one after another, in {config.out}"
    return _work(order, config, run, about)


def launch(rest: list[str]) -> Work:
    """Run a command in several processes on this machine: --processes N -- pretrain CONFIG."""
    separator = rest.index("--") if "--" in rest else len(rest)
    command = rest[separator + 1 :]

    def arguments(processes: int, devices_per_process: int = 0) -> Work:
        """Run a command in several processes on this machine; write the command after `--`.

        Args:
            processes: number of processes; the devices of all of them form one mesh.
            devices_per_process: number of devices that each process simulates on the CPU; 0 uses the devices
                of the machine.
        """
        from mpt.system.launch import launch

        if command[0] not in TRAINING:
            hint = nearest(command[0], TRAINING)
            raise UserError(f"launch: '{command[0]}' does not run in several processes; {hint}")
        return Work(lambda: launch(command, processes, devices_per_process))

    if not command and not HELP & {*rest}:
        raise UserError(
            "launch: no command; write it after --, as in: mpt launch --processes 2 -- pretrain CONFIG"
        )
    return read(arguments, rest[:separator], "mpt launch")


def _work(order: Any, config: Any, run: Callable[[], None], about: str) -> Work:
    """The work of a command that trains; with --dry-run, its cost is printed instead.

    Args:
        config: that of the order, as the run keeps it.
    """
    from mpt.recipes.checks import check, check_files, check_folder, check_reachable
    from mpt.rundir.found import is_finished

    tasks = check(order.config)
    check_folder(config, tasks)
    check_files(config, tasks)
    if not order.dry_run:
        check_reachable(config, tasks)
        if not is_finished(config.out):  # one that is read back needs no model
            from mpt.loading import located

            located.check_model(config.model.name)
            located.check_reachable(config.model.name)
        return Work(run, about)

    def dry() -> None:
        from mpt.plan.dry_run import dry_run

        dry_run(order.config, order.tflops)  # with the names that were given

    return Work(dry, "a dry run: nothing is trained, fetched or written")


def _from_anywhere(tasks: Sequence[str]) -> tuple[str, ...]:
    """Tasks as a config keeps them, which may be read in another folder."""
    from mpt.data.taskfile import from_anywhere

    return tuple(map(from_anywhere, tasks))


def _few(tasks: Sequence[str]) -> str:
    """The names of tasks, for a line."""
    shown = [Path(task).name for task in tasks[:4]]
    return ", ".join(shown) + (f" and {len(tasks) - 4} more" if len(tasks) > 4 else "")


def _order(order: Any, kind: type, command: str, rest: list[str]) -> Any:
    """Parses the arguments of a command: a config, if the first argument names one, and its options."""
    if "--help" in rest or "-h" in rest:
        print(overview(kind, order, command, COMMANDS[command].__doc__ or ""))
        raise SystemExit(0)
    named = bool(rest) and not rest[0].startswith("-")
    prog = f"mpt {command}"
    known = [*(name for name in names(order) if name != "--config"), *names(kind)]
    check_names(rest[named:], known, prog, ["config"])
    from mpt.config.yaml_file import find_config, load_config, read_yaml

    base: Any = kind()
    if named:
        file = find_config(rest[0])
        if {"source", "template"} <= read_yaml(file).keys():
            option = next(name for name in ("--task", "--targets", "--tasks") if name in names(kind))
            raise UserError(
                f"{command}: {rest[0]} is a task file, not a config; give it as {option} {rest[0]}"
            )
        base = load_config(kind, file)
    arguments = as_flags(rest[named:], ["dry_run", *booleans(kind)])
    prog += f" {rest[0] if named else '[CONFIG]'}"
    if "--help-all" in arguments:
        print(everything(order(base), command, COMMANDS[command].__doc__ or ""))
        raise SystemExit(0)
    given = parsed(order[kind], arguments, prog, default=order(base))
    from mpt.recipes.checks import without_folders

    return replace(given, config=without_folders(given.config))


COMMANDS: dict[str, Command] = {
    "quickstart": quickstart,
    "pretrain": pretrain,
    "adapt": adapt,
    "compare": compare,
    "plan": plan,
    "continual": continual,
    "launch": launch,
}
