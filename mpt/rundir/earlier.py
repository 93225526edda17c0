"""What an earlier command has left in a run directory, and whether a run may start or resume there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from mpt.config.yaml_file import differences, load_config, to_plain
from mpt.errors import UserError
from mpt.system.paths import AnyPath, is_remote, run_path

# What a run writes before its first step.
BEFORE_TRAINING = ("config.yaml", "data.json", "draws.json", "cost.json")

# Task -> the digests of its parts, by the parts' names; see ``mpt.catalog.digests``.
Digests = Mapping[str, Mapping[str, str]]


class Earlier(NamedTuple):
    """What is in a folder for a run.

    Attributes:
        same: its config is written there already, word for word.
        left_over: the files of a failed command, which are removed.
    """

    same: bool
    left_over: Sequence[AnyPath] = ()


def earlier(
    path: str | AnyPath, config: Any, free: Collection[str] = (), digests: Digests | None = None
) -> Earlier:
    """Looks into the folder of a run; nothing is written, and JAX is not loaded.

    A run of another config that has trained no step, as a mistyped command leaves it, is removed.

    Args:
        config: the options of the run.
        free: keys that may differ when a run is resumed.
        digests: of the run's tasks.

    Raises:
        UserError: the folder holds a run with another config or of other data, or something else.
    """
    _check_folder(path)
    run = run_path(path)
    saved = run / "config.yaml"
    if not saved.exists():
        return Earlier(same=False)
    try:
        # Read as a dataclass, so that options added by a later version have their defaults.
        old, new = to_plain(load_config(type(config), saved)), to_plain(config)
    except UserError:  # it is of another command
        left = left_over(run)
        if left is None:
            raise UserError(
                f"{run} holds a run of another command, see its config.yaml; "
                "give another folder with --out, or remove this one"
            ) from None
        return Earlier(same=False, left_over=left)
    fixed = [{name: plain[name] for name in plain if name not in free} for plain in (old, new)]
    changed = differences(*map(_without_mesh, fixed))
    what = "another config" if changed else "other data"
    changed = changed or _changed_tasks(run, digests or {})
    left = left_over(run) if changed else []
    if left is None:
        raise UserError(
            f"{run} holds a run of {what} ({'; '.join(changed[:3])}); "
            "give another folder with --out, or remove this one"
        )
    return Earlier(not changed and all(old[name] == new[name] for name in free), left)


def _changed_tasks(run: AnyPath, digests: Digests) -> list[str]:
    """Which tasks are not what they were when the run began; what is not known of one has not changed."""
    if not (run / "data.json").exists():  # an older version has made it
        return []
    kept = json.loads((run / "data.json").read_text())
    return [
        f"the {part} of task {name} changed since"
        for name, of_task in digests.items()
        for part, digest in of_task.items()
        if digest != (kept.get(name, {}).get(part) or digest) and digest
    ]


def check_new(path: AnyPath) -> None:
    """Refuses a folder to be written as a whole that holds anything.

    Raises:
        UserError: it is a file, or not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already; give another folder with --out, or remove this one")


def _check_folder(path: str | AnyPath) -> None:
    """Refuses a folder for a run that holds something else."""
    folder = run_path(path)
    above = () if is_remote(folder) else folder.parents  # a bucket has no folders
    if file := next((parent for parent in above if parent.is_file()), None):
        raise UserError(f"{folder} is below {file}, which is a file; give another folder with --out")
    if folder.exists() and not (folder / "config.yaml").exists() and not _is_empty(folder):
        raise UserError(f"{folder} exists and is not a run of mpt; give another folder with --out")


def _is_empty(folder: AnyPath) -> bool:
    """Whether a folder is empty, but for what a run leaves that was killed while it wrote its config."""
    return folder.is_dir() and all(path.name.startswith(".config.yaml.") for path in folder.iterdir())


def left_over(run: AnyPath) -> list[AnyPath] | None:
    """The files of a run that has trained no step; None where one was trained, or something else is there.

    The tasks that Python has written into it are not among them. A bucket is not searched.
    """
    if is_remote(run):
        return None
    files = [path for path in run.rglob("*") if path.is_file() and path.parent != run / "tasks"]
    return files if all(map(_is_before_training, files)) else None


def _is_before_training(file: AnyPath) -> bool:
    if file.name == "metrics.jsonl":
        return not file.read_bytes()
    return file.name in BEFORE_TRAINING or file.name.startswith((".config.yaml.", "events.out.tfevents."))


def _without_mesh(plain: Any) -> Any:
    """A config without its meshes, which say where a run is computed and do not change its results."""
    if not isinstance(plain, dict):
        return plain
    return {name: _without_mesh(value) for name, value in plain.items() if name != "mesh"}
