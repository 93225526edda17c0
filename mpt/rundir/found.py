"""What is in a run directory, looked up before anything is loaded, and what is said where it is not there."""

from __future__ import annotations

from pathlib import Path

from mpt.errors import UserError
from mpt.system.paths import AnyPath, finished_run, is_remote, run_path

VECTORS = ".safetensors"  # the ending of a prompt's file
# What a run writes before its first step.
BEFORE_TRAINING = ("config.yaml", "draws.json", "cost.json")


def find_run(folder: str | AnyPath) -> AnyPath:
    """The run directory of that name, for a command that only reads it; hf://owner/name is fetched once.

    Raises:
        UserError: there is none.
    """
    run = finished_run(folder)
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: {_lacking(run)}")
    return run


def find_prompt(run: AnyPath, name: str) -> AnyPath:
    """The file of one of a run's prompts.

    Raises:
        UserError: there is none.
    """
    file = run / "prompts" / f"{name}{VECTORS}"
    if file.is_file():
        return file
    known = sorted(path.stem for path in (run / "prompts").glob(f"*{VECTORS}"))
    if known:
        hint = f"it has {', '.join(known)}"
    elif (run / "config.yaml").is_file():
        hint = "let its run finish first"
    else:
        hint = _lacking(run)
    raise UserError(f"{run}: no prompt '{name}' in it; {hint}" if run.is_dir() else f"{run}: {hint}")


def _lacking(run: AnyPath) -> str:
    """Why a folder is no run directory, and what makes one."""
    what = "no run directory (it has no config.yaml)" if run.exists() else "no such folder"
    return f"{what}; `mpt pretrain` and `mpt adapt` make one, where --out says"


def check_start(prompt: str) -> None:
    """Refuses a prompt to start from that is neither a run's universal prompt nor one of a bank."""
    in_bank = is_remote(prompt) or any(Path(prompt).parent.glob(f"*{VECTORS}"))
    has_teachers = (Path(prompt) / "prompts" / f"teachers{VECTORS}").is_file()  # enough for some methods
    if not has_teachers and (Path(prompt).is_dir() or not in_bank):
        find_prompt(run_path(prompt), "universal")


def check_out(path: str | AnyPath) -> None:
    """Refuses a folder for a run that holds something else."""
    folder = run_path(path)
    above = () if is_remote(folder) else folder.parents  # a bucket has no folders
    if file := next((parent for parent in above if parent.is_file()), None):
        raise UserError(f"{folder} is below {file}, which is a file; give another folder with --out")
    if folder.exists() and not (folder / "config.yaml").exists() and not _is_empty(folder):
        raise UserError(f"{folder} exists and is no run of mpt; give another folder with --out")


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
