"""Finds tasks: packaged ones by name, and the user's task files by path."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import mpt.tasks
from mpt.config.yaml_file import read_yaml
from mpt.data.task import Task
from mpt.data.taskfile import is_task_file, read_task
from mpt.errors import UserError, nearest
from mpt.system.paths import AnyPath
from mpt.tasks.continual import SEQUENCES


@cache
def packaged_tasks() -> Mapping[str, Task]:
    """All tasks that the modules in ``tasks/`` define, by name.

    Raises:
        ValueError: two tasks share a name.
    """
    tasks: dict[str, Task] = {}
    for module in pkgutil.iter_modules(mpt.tasks.__path__):
        for task in importlib.import_module(f"mpt.tasks.{module.name}").TASKS:
            if task.name in tasks:
                raise ValueError(f"tasks/{module.name}.py: task '{task.name}' is registered twice")
            tasks[task.name] = task
    return tasks


def find_task(name: str, others: Collection[str] = ()) -> Task:
    """Finds a packaged task by name, or reads a task file by path; a suffix ``:NAME`` selects a template.

    Args:
        others: further names that may be meant where there is no such task.

    Raises:
        UserError: there is no such task, or the file has a mistake.

    >>> find_task("movies").instruction
    'Decide whether the feeling of this piece of a movie review is positive or negative.\\n'
    >>> find_task("movie")
    Traceback (most recent call last):
        ...
    mpt.errors.UserError: task 'movie' is unknown; did you mean 'movies'? (your own task is a .yaml file)
    """
    name, _, template = name.partition(":")
    task = _find_task(name, others)
    return task.with_template(template) if template else task


def find_tasks(command: str, names: Sequence[str], others: Collection[str] = ()) -> list[Task]:
    """Finds the tasks that one command names, whose runs and figures are distinguished by the tasks' names.

    Raises:
        UserError: there is no such task, a file has a mistake, or two different tasks have one name.
    """
    tasks, first = [find_task(name, others) for name in names], {}
    for task, given in zip(tasks, names):
        other = first.setdefault(task.name, given)
        if _place(other) != _place(given):
            file = given if _is_file(given) else other
            raise UserError(
                f"{command}: {other} and {given} are both called '{task.name}'; "
                f"give {file.partition(':')[0]} another name by a line such as name: my_{task.name}"
            )
    return tasks


def in_folders(names: Sequence[str]) -> list[str]:
    """The names of tasks, where a folder is replaced by all task files in it and in its folders, by path.

    A packaged task goes before a folder of its name.

    Raises:
        UserError: a folder has no task file.
    """

    def is_folder(name: str) -> bool:
        return bool(name) and name not in packaged_tasks() and Path(name).is_dir()

    return [task for name in names for task in (_files_in(Path(name)) if is_folder(name) else [name])]


def _files_in(folder: Path) -> list[str]:
    files = sorted(str(file) for file in folder.rglob("*") if is_task_file(file.name) and file.is_file())
    if not files:
        raise UserError(f"{folder}: no task file in this folder; its name ends in .yaml, see `mpt tasks`")
    return files


def name_of(given: str) -> str:
    """The name of a task that a command names; of a file that cannot be read, the file's own.

    >>> name_of("movies"), name_of("gone/mine.yaml:short")
    ('movies', 'mine:short')
    """
    try:
        return find_task(given).name
    except UserError:
        file, colon, template = given.partition(":")
        return Path(file).stem + colon + template


def task_of_run(run: AnyPath, name: str) -> Task:
    """A task of a finished run, with its data: the one that the run's config names so, or else any task.

    Raises:
        UserError: there is no such task any more.
    """
    config = read_yaml(run / "config.yaml")
    named = filter(None, [*config.get("tasks", ()), config.get("task"), *config.get("also", ())])
    return find_task(next((given for given in sequence(list(named)) if name_of(given) == name), name))


def is_packaged(task: Task) -> bool:
    """Whether a task is identical to the packaged task of its name.

    >>> is_packaged(find_task("movies"))
    True
    """
    try:
        return find_task(task.name) == task
    except UserError:
        return False


def sequence(names: Sequence[str]) -> list[str]:
    """The names of tasks in order, where the name of a packaged sequence is replaced by its tasks."""
    return [task for name in names for task in SEQUENCES.get(name, (name,))]


def find_sequence(names: Sequence[str]) -> list[Task]:
    """Finds the tasks of ``mpt continual``, in the order in which they are learned.

    Raises:
        UserError: there are fewer than two, one stands there twice, or is unknown.
    """
    tasks = find_tasks("continual", sequence(names), SEQUENCES)
    if len(tasks) < 2:
        known = ", ".join(SEQUENCES)
        raise UserError(f"continual: tasks: name at least two, see `mpt tasks`, or one sequence of {known}")
    seen = [task.name for task in tasks]
    if twice := [name for name in seen if seen.count(name) > 1]:
        raise UserError(f"continual: tasks: '{twice[0]}' is in the sequence twice; name each task once")
    return tasks


def _is_file(given: str) -> bool:
    return is_task_file(given.partition(":")[0])


def _place(given: str) -> str:
    """What is alike for two ways of naming one task."""
    file, colon, template = given.partition(":")
    return f"{Path(file).resolve()}{colon}{template}" if _is_file(given) else given


def _find_task(name: str, others: Collection[str] = ()) -> Task:
    if is_task_file(name):
        return read_task(Path(name))
    if not name:
        raise UserError("no task is named; give one with --task: a name from `mpt tasks`, or a task file")
    if name not in packaged_tasks():
        if Path(name).is_file():
            raise UserError(
                f"{name} is not a task file: write one, such as {Path(name).with_suffix('.yaml')}, with the "
                f"lines source: {Path(name).name}, template: and label:"
            )
        hint = nearest(name, [*packaged_tasks(), *others], "`mpt tasks` lists them")
        raise UserError(f"task '{name}' is unknown; {hint} (your own task is a .yaml file)")
    return packaged_tasks()[name]
