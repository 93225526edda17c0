"""Checks a run by its options alone: before JAX is loaded, and before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpt.catalog.digests import digests_of
from mpt.catalog.library import find_sequence, find_task, find_tasks, in_folders, task_of_run
from mpt.comparison.config import (
    FROM_PRETRAINING,
    FROM_TEACHERS,
    PREFIX,
    SHOWN,
    AnyConfig,
    CompareConfig,
    check_applicable,
    check_methods,
    check_tuning,
    splits_read,
)
from mpt.config.adapt import answers
from mpt.config.continual import ContinualConfig
from mpt.config.methods import AUTO, AdaptConfig, idle_options, suited
from mpt.config.pretrain import PretrainConfig
from mpt.continual_learning.methods import checked_methods
from mpt.data.hub import Saved
from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.rundir.earlier import earlier
from mpt.rundir.found import check_start, in_bank, is_finished, needs_task, no_prompt, trained_prompts
from mpt.rundir.tracking import check_installed
from mpt.system.paths import AnyPath, check_store, is_remote, run_path

# The tasks of a run by their part in it: "source", "target", "sequence", or "tune".
Parts = Mapping[str, Sequence[Task]]


def without_folders(config: Any) -> Any:
    """A config in which folders of tasks are replaced by the task files in them.

    Raises:
        UserError: a folder has none.
    """
    if isinstance(config, PretrainConfig):
        return replace(config, tasks=tuple(in_folders(config.tasks)))
    if isinstance(config, CompareConfig):
        targets, tuned = (tuple(in_folders(names)) for names in (config.targets, config.tune.tasks))
        pretrain, tune = without_folders(config.pretrain), replace(config.tune, tasks=tuned)
        return replace(config, pretrain=pretrain, targets=targets, tune=tune)
    return config


def check(config: AnyConfig) -> Parts:
    """The tasks of a run, once its options and their names have been looked at.

    Raises:
        UserError: a task is missing or unknown, its file has a mistake, or options do not go together.
    """
    if isinstance(config, PretrainConfig):
        return {"source": check_pretrain(config)}
    if isinstance(config, CompareConfig):
        return check_compare(config)
    if isinstance(config, ContinualConfig):
        return {"sequence": check_continual(config)}
    return {"target": check_adapt(config)}


def check_folder(config: AnyConfig, tasks: Parts) -> None:
    """Refuses a folder that holds another run or something else; the run itself looks into a bucket.

    Args:
        config: as it is to be kept in the folder.
    """
    check_installed(config.track)
    check_store(config.out)
    if is_remote(config.out):
        return
    free: Sequence[str] = SHOWN if isinstance(config, CompareConfig) else ()
    if isinstance(config, AdaptConfig):
        free = idle_options(suited(config.method, all(task.choices for task in tasks["target"])))
    # The runs of a comparison look at their own tasks; it may have been given more of them.
    of = [] if isinstance(config, CompareConfig) else [task for part in tasks.values() for task in part]
    earlier(config.out, config, free, digests_of(of))


def check_pretrain(config: PretrainConfig) -> list[Task]:
    """The source tasks of a pretraining.

    Raises:
        UserError: they are too few or unknown, or an option does not go with another.
    """
    check_sources(config)
    return _all_in_front("pretrain", find_tasks("pretrain", config.tasks))


def check_sources(config: PretrainConfig) -> None:
    """Refuses too few source tasks, and options that do not go together; no task is looked up."""
    if len(config.tasks) < 2:
        raise UserError("pretrain: tasks: name at least two source tasks, see `mpt tasks`")
    if config.universal.cache_teachers and is_remote(config.out):
        raise UserError(
            "universal.cache_teachers: it needs a local folder, not a bucket; leave it out, or give "
            "another --out"
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
    for task in tasks:
        if config.baseline and not answers(config.baseline, bool(task.choices)):
            needed, there = ("free text", "class words") if task.choices else ("class words", "free text")
            raise UserError(
                f"adapt: baseline: '{config.baseline}' is for {needed}, and task {task.name} is of {there}"
            )
    _check_start(config)
    return tasks


def check_compare(config: CompareConfig) -> Parts:
    """The tasks of a comparison.

    Raises:
        UserError: they are missing, unknown, or among the source tasks; or rates would be tuned on them.
    """
    if not config.targets:
        raise UserError("compare: targets: name at least one held-out task, see `mpt tasks`")
    check_methods((*config.methods, config.reference))
    parts = {"source": config.pretrain.tasks, "target": config.targets, "tune": config.tune.tasks}
    tasks = iter(find_tasks("compare", [name for names in parts.values() for name in names]))
    found = {part: [next(tasks) for _ in names] for part, names in parts.items()}
    _all_in_front("compare: pretrain", found["source"])
    sources, targets = ({task.name for task in found[part]} for part in ("source", "target"))
    if config.held_out and (shared := sources & targets):
        raise UserError(f"compare: '{min(shared)}' is a source and a target; a target must be held out")
    check_applicable(config.methods, [bool(task.choices) for task in found["target"]])
    _check_placed(config, found["target"])
    check_tuning(config)
    if in_bank(config.source) and (needy := {*config.methods} & {*FROM_TEACHERS}):
        raise UserError(
            f"compare: source: {min(needy)} starts from source tasks' own prompts, and a bank's prompt has "
            "none; name a run of `mpt pretrain`"
        )
    return found


def check_continual(config: ContinualConfig) -> list[Task]:
    """The tasks that are learned one after another, in order.

    Raises:
        UserError: there are fewer than two, one stands there twice or is unknown, a method cannot start, or
            the prompt to start from is not there.
    """
    tasks = _all_in_front("continual", find_sequence(config.tasks))
    checked_methods(config)
    _check_start(config)
    return tasks


def check_prompt(run: AnyPath, task: str, index: int) -> str:
    """Refuses a prompt that a finished run does not have, by what the cards of its prompts say.

    Args:
        task: its name or file; where none is named, a universal prompt of several tasks needs one.
        index: that of an adaptation's prompt; there is one per seed.

    Returns:
        The name of the task, where it is one of the run's own; else what was given.

    Raises:
        UserError: there is none for that task, or of that number.
    """
    cards: dict[str, tuple[list[str], list[str]]] = {}  # the tasks whose words are known, and one per prompt
    for file in (run / "prompts").glob("*.json"):
        with suppress(ValueError, TypeError, KeyError):  # a damaged card is reported when it is read
            card = json.loads(file.read_text(encoding="utf-8"))
            cards[file.stem] = [*card["templates"]], [*card["prompts"]]
    names = {name for templates, _ in cards.values() for name in templates}
    wanted = find_task(task, names).name if task and task not in names else task
    several, _ = cards.get("universal", ([], []))
    if not task and len(several) > 1:
        raise UserError(needs_task(run, several))
    adapted = [name for stem, (_, of) in cards.items() if stem.startswith("adapted") for name in of]
    if adapted and wanted and wanted not in adapted:
        raise UserError(
            f"{run}: adapted to {' and '.join(sorted({*adapted}))}, not to {wanted}; adapt to it first"
        )
    files = trained_prompts(run)
    count = len(adapted) if files == ["adapted"] else len(files)
    if files != ["universal"] and not 0 <= index < count:
        raise no_prompt(run, index, count)
    return task or next(iter(names), "")


def check_scored(run: AnyPath, task: str, split: str) -> None:
    """Refuses a task whose rows cannot be read, or would have to be fetched without a network.

    Args:
        run: the run that is scored on the task.
        task: its name or file, as ``check_prompt`` returns it.
    """
    if task:  # a damaged run is reported when it is read
        found = task_of_run(run, task)
        _check_rows(found, [split])
        found.source.check_reachable()


def check_reachable(config: AnyConfig, tasks: Parts) -> None:
    """Refuses tasks that must be downloaded, without a network."""
    for of_part in _to_read(config, tasks).values():
        for task in of_part:
            task.source.check_reachable()


def check_files(config: AnyConfig, tasks: Parts) -> None:
    """Refuses tasks whose files on this machine do not fit them.

    The first row of each split that the run reads is read: that a file is not there, or a column has another
    name, is then reported at once.

    Raises:
        UserError: a split is missing or empty, or its first row is no example.
    """
    for part, of_part in _to_read(config, tasks).items():
        for task in of_part:
            _check_rows(task, splits_read(config, part))


def _check_rows(task: Task, splits: Sequence[str]) -> None:
    if isinstance(task.source, Files | Saved) and task.source.is_local:
        for split in splits:
            next(task.examples(split))


def check_searched(name: str) -> None:
    """Refuses a task for which a bank cannot be searched: it is unknown, or its rows cannot be read."""
    (task,) = _all_in_front("bank search", [find_task(name)])
    _check_rows(task, ["train"])
    task.source.check_reachable()


def _to_read(config: AnyConfig, tasks: Parts) -> Parts:
    """The tasks whose rows are still to be read: a finished run is read back without them."""
    finished = is_finished(config.out)
    if not isinstance(config, CompareConfig):
        return {} if finished else tasks
    # A comparison is given further methods and targets when it has finished, too.
    needs = {*config.methods} & {*FROM_PRETRAINING}
    pretrained = in_bank(config.source) or is_finished(config.source or f"{config.out}/pretrain")
    targets = [task for task in tasks["target"] if not finished or not Path(config.out, task.name).exists()]
    sources = tasks["source"] if needs and not pretrained else []
    tuned = tasks["tune"] if config.tune.factors and not finished else []
    return {"source": sources, "target": targets, "tune": tuned}


def _check_placed(config: CompareConfig, targets: Sequence[Task]) -> None:
    """Refuses methods whose prompts cannot stand inside the user's turn, where a target has its there."""
    vectors = config.pretrain.vectors
    pretrained = FROM_PRETRAINING if vectors.every_layer or vectors.layer else ()
    placed = [task.name for task in targets if task.place != "front"]
    if placed and (unable := {*config.methods} & {PREFIX, *pretrained}):
        raise UserError(
            f"compare: methods: '{min(unable)}' has its prompt in later layers, where it stands in front of "
            f"everything, and task {placed[0]} has it inside the user's turn (place); leave one of both out"
        )


def _all_in_front(command: str, tasks: list[Task]) -> list[Task]:
    """The tasks, none of which has its prompt elsewhere than in front of everything."""
    for task in tasks:
        if task.place != "front":
            raise UserError(
                f"{command}: task {task.name}: place: prompts stand in front of everything here; adapt alone "
                "has them inside the user's turn, also those that start from a universal prompt; leave it out"
            )
    return tasks


def _check_start(config: AdaptConfig | ContinualConfig) -> None:
    """Refuses a prompt to start from that cannot exist."""
    named = config.prompt not in ("", AUTO)
    if named and not run_path(config.out).exists():  # a finished run is read back without it
        check_start(config.prompt)
