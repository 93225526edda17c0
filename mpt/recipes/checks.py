"""What a run needs, checked by its options alone: before JAX is loaded, and before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from mpt.catalog.library import find_sequence, find_task, find_tasks
from mpt.comparison.config import SHOWN, CompareConfig, check_methods
from mpt.config.methods import AdaptConfig, idle_options, suited
from mpt.config.options import ContinualConfig, PretrainConfig
from mpt.data.records import Fault
from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.rundir.earlier import earlier
from mpt.rundir.found import check_start, needs_task
from mpt.rundir.tracking import check_installed
from mpt.system.paths import AnyPath, is_remote, run_path


def check_folder(
    config: PretrainConfig | AdaptConfig | CompareConfig | ContinualConfig, tasks: Sequence[Task]
) -> None:
    """Refuses a folder that holds another run or something else; the run itself looks into a bucket.

    Args:
        config: as it is to be kept in the folder.
        tasks: its targets.
    """
    check_installed(config.track)
    if is_remote(config.out):
        return
    free: Sequence[str] = SHOWN if isinstance(config, CompareConfig) else ()
    if isinstance(config, AdaptConfig):
        free = idle_options(suited(config.method, all(task.choices for task in tasks)))
    earlier(config.out, config, free)


def check_pretrain(config: PretrainConfig) -> list[Task]:
    """The source tasks of a pretraining.

    Raises:
        UserError: they are too few or unknown, or an option does not go with another.
    """
    check_sources(config)
    return find_tasks("pretrain", config.tasks)


def check_sources(config: PretrainConfig) -> None:
    """Refuses too few source tasks, and options that do not go together; no task is looked up."""
    if len(config.tasks) < 2:
        raise UserError("pretrain: tasks: name at least two source tasks, see `mpt tasks`")
    if config.universal.cache_teachers and is_remote(config.out):
        raise UserError(
            "universal.cache_teachers: it takes a folder, no bucket; leave it out, or give another --out"
        )


def check_adapt(config: AdaptConfig) -> list[Task]:
    """The target tasks of an adaptation.

    Raises:
        UserError: one is missing, unknown or named twice, or the prompt to start from is not there.
    """
    if not config.task:
        raise UserError("adapt: --task is required: a name from `mpt tasks`, or a task file")
    tasks = find_tasks("adapt", (config.task, *config.also))
    if len({task.name for task in tasks}) < len(tasks):
        raise UserError("adapt: also: it names a target twice; name each once")
    _check_start(config)
    return tasks


def check_compare(config: CompareConfig) -> list[Task]:
    """The targets of a comparison.

    Raises:
        UserError: they are missing, unknown, or among the source tasks.
    """
    if not config.targets:
        raise UserError("compare: targets: name at least one held-out task, see `mpt tasks`")
    if config.held_out and (shared := set(config.targets) & set(config.pretrain.tasks)):
        raise UserError(f"compare: '{min(shared)}' is a source and a target; a target must be held out")
    check_methods((*config.methods, config.reference))
    tasks = (*config.pretrain.tasks, *config.targets, *config.tune.tasks)
    return find_tasks("compare", tasks)[len(config.pretrain.tasks) :]


def check_continual(config: ContinualConfig) -> list[Task]:
    """The tasks that are learned one after another, in order.

    Raises:
        UserError: there are fewer than two, one stands there twice or is unknown, or the prompt to start from
            is not there.
    """
    tasks = find_sequence(config.tasks)
    _check_start(config)
    return tasks


def check_task(run: AnyPath, task: str) -> None:
    """Refuses a task, by its name or file, that neither a finished run's prompts nor mpt knows.

    Where none is named, a universal prompt of several tasks needs one.
    """
    known: dict[str, list[str]] = {}
    for card in (run / "prompts").glob("*.json"):
        with suppress(ValueError, TypeError, KeyError):  # a damaged card is told of where it is read
            known[card.stem] = [*json.loads(card.read_text(encoding="utf-8"))["templates"]]
    names = {name for templates in known.values() for name in templates}
    if task and task not in names:
        find_task(task, names)
    if not task and len(several := known.get("universal", [])) > 1:
        raise UserError(needs_task(run, several))


def check_data(tasks: Sequence[Task]) -> None:
    """Refuses tasks that would have to be fetched without a network, or whose files do not fit them.

    Of a file on this machine the first row is read: that it is not there, or a column has another name, is
    then told at once.

    Raises:
        UserError: the data cannot be had, or a first row is no example.
    """
    for task in tasks:
        task.source.check_reachable()
        if isinstance(task.source, Files) and task.source.is_local:
            for split in task.source.stored_splits:
                row = next(task.source.rows(split), None)
                if isinstance(row, Fault):
                    raise row
                if row:
                    task.example(row)


def _check_start(config: AdaptConfig | ContinualConfig) -> None:
    """Refuses a prompt to start from that cannot be meant."""
    if config.prompt and not run_path(config.out).exists():  # a finished run is read back without it
        check_start(config.prompt)
