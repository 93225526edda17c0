"""Commands that take a config: they train, or say what training would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from mpt.commands import Command
from mpt.commands.booleans import as_flags, booleans
from mpt.errors import UserError

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
    json: Path | None = None
    """File to write all figures to, as JSON."""


def quickstart(rest: list[str]) -> None:
    """The main job on a real model and real texts: `compare` with the packaged config."""
    compare(["quickstart", *rest])


def pretrain(rest: list[str]) -> None:
    """Train teacher prompts for source tasks and distil them into a universal prompt."""
    from mpt.config.options import PretrainConfig
    from mpt.recipes.pretrain import pretrain

    if resolved := _configured(PretrainConfig, "pretrain", rest):
        print(f"Universal prompt in {pretrain(resolved)}/prompts")


def adapt(rest: list[str]) -> None:
    """Adapt a universal prompt to a new task from few examples: --prompt RUN_DIR --task FILE."""
    from mpt.data.taskfile import from_anywhere
    from mpt.methods import METHODS, AdaptConfig
    from mpt.recipes.adapt import adapt_all

    resolved = _configured(AdaptConfig, "adapt", rest)
    if not resolved:
        return
    task, *also = map(from_anywhere, (resolved.task, *resolved.also))
    for result in adapt_all(replace(resolved, task=task, also=tuple(also))):
        for seed, score in zip(resolved.seeds, result.scores):
            rows = f"{result.rows} {resolved.scored} rows"
            figure = f"{score:.4f}" if math.isfinite(score) else "undefined"
            print(f"{result.task}, seed {seed}: {result.metric} {figure} on {rows}")
        print("".join(f"{remark}\n" for remark in result.remarks), end="")
    if resolved.baseline:
        print(f"Figures in {resolved.out}/results.json; a baseline is no prompt, and is not kept")
    elif resolved.method in METHODS and METHODS[resolved.method].keep is None:
        print(f"Figures in {resolved.out}/results.json; a model that is trained whole is not kept")
    else:
        print(f"Prompt in {resolved.out}/prompts")


def compare(rest: list[str]) -> None:
    """Run every method on every held-out task and print one table."""
    from mpt.comparison.config import CompareConfig
    from mpt.recipes.compare import compare

    if resolved := _configured(CompareConfig, "compare", rest):
        compare(resolved)


def plan(rest: list[str]) -> None:
    """What a run takes on chips that need not be here: memory, time, the best mesh: --topology v5e:4x4."""
    from mpt.comparison.config import CompareConfig
    from mpt.config.options import ContinualConfig, PretrainConfig
    from mpt.config.yaml_file import find_config, kind_of
    from mpt.methods import AdaptConfig
    from mpt.recipes.plan import plan, with_model

    kind = PretrainConfig
    if rest and not rest[0].startswith("-"):
        kinds = PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig
        kind = kind_of(find_config(rest[0]), kinds)
    order = _order(PlanOrder, kind, "plan", rest)
    resolved = with_model(order.config, order.backbone) if order.backbone else order.config
    plan(resolved, order.topology, order.tries, order.patience, order.json)


def continual(rest: list[str]) -> None:
    """Learn tasks one after another by several methods, and measure what is kept and what is lost."""
    from rich.console import Console

    from mpt.config.options import ContinualConfig
    from mpt.continual_learning.results import table
    from mpt.data.taskfile import from_anywhere
    from mpt.recipes.continual import continual
    from mpt.render.console import print_table

    if resolved := _configured(ContinualConfig, "continual", rest):
        results = continual(replace(resolved, tasks=tuple(map(from_anywhere, resolved.tasks))))
        print_table(Console(), table(results))
        print(f"Written to {resolved.out}/results.md, with pictures; each method's prompts are beside it.")


def launch(rest: list[str]) -> None:
    """Run a command in several processes on this machine: --processes N -- pretrain CONFIG."""
    from mpt.system.launch import launch

    separator = rest.index("--") if "--" in rest else len(rest)

    def arguments(processes: int, devices_per_process: int = 0) -> None:
        """Run a command in several processes on this machine; it stands behind --.

        Args:
            processes: number of processes; the devices of all of them form one mesh.
            devices_per_process: number of devices that each process simulates on the CPU; 0 uses the devices
                of the machine.
        """
        command = rest[separator + 1 :]
        if command[:1] and command[0] not in TRAINING:
            raise UserError(
                f"launch: '{command[0]}' runs in one process; {', '.join(TRAINING)} run in several"
            )
        launch(command, processes, devices_per_process)

    tyro.cli(arguments, args=rest[:separator], prog="mpt launch")


def _configured(kind: type, command: str, rest: list[str]) -> Any:
    """The config of a command with its options; None if it was --dry-run, which has been printed."""
    order = _order(Order, kind, command, rest)
    if not order.dry_run:
        return order.config
    from mpt.plan.dry_run import dry_run

    dry_run(order.config, order.tflops)
    return None


def _order(order: Any, kind: type, command: str, rest: list[str]) -> Any:
    """Parses the arguments of a command: a config, if the first argument names one, and its options."""
    from mpt.config.yaml_file import find_config, load_config

    named = bool(rest) and not rest[0].startswith("-")
    base = load_config(kind, find_config(rest[0])) if named else kind()
    prog = f"mpt {command} {rest[0] if named else '[CONFIG]'}"
    about = COMMANDS[command].__doc__
    arguments = as_flags(rest[named:], ["dry_run", *booleans(kind)])
    return tyro.cli(order[kind], args=arguments, default=order(base), prog=prog, description=about)


COMMANDS: dict[str, Command] = {
    "quickstart": quickstart,
    "pretrain": pretrain,
    "adapt": adapt,
    "compare": compare,
    "plan": plan,
    "continual": continual,
    "launch": launch,
}
