"""Finds what a run directory contains, before anything is loaded, and reports what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, takewhile
from pathlib import Path

from mpt.errors import UserError
from mpt.system.paths import HUB, AnyPath, bank_path, check_store, finished_run, is_remote, missing, run_path

VECTORS = ".safetensors"  # the ending of a prompt's file
REPORT = "report.html"  # what a run writes last


def find_run(folder: str | AnyPath) -> AnyPath:
    """The run directory of that name, for a command that only reads it; hf://owner/name is fetched once.

    Raises:
        UserError: there is none.
    """
    run = finished_run(folder)
    if not (run / "config.yaml").is_file():
        raise UserError(_lacking(run))
    return run


def find_trained(folder: str | AnyPath) -> AnyPath:
    """The run directory of that name, for a command that uses its prompts.

    Raises:
        UserError: there is none, its prompts are still to come, or they are those of runs inside it.
    """
    run = find_run(folder)
    has_figures_alone = (run / "results.json").is_file() and not _inside(run, "*")
    if not has_figures_alone and not any((run / "prompts").glob(f"*{VECTORS}")):
        find_prompt(run, "universal")
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
    inside = _inside(run, name) or _inside(run, "*")
    if known:
        hint = f"it has {', '.join(known)}"
        if name == "universal" and any(each.startswith("adapted") for each in known):
            hint += f", which others start from once it is in a bank: mpt bank add {run}"
    elif inside:
        hint = f"a run inside it has one: {inside[0]}"
    elif (run / "config.yaml").is_file():
        hint = "let its run finish first"
    else:
        raise UserError(_lacking(run))
    raise UserError(f"{run}: no prompt '{name}' in it; {hint}")


def trained_prompts(run: AnyPath) -> list[str]:
    """The names of the prompts that a run trained: one, or one per seed; they need not be there yet."""

    def there(name: str) -> bool:
        return (run / "prompts" / f"{name}{VECTORS}").is_file()

    if there("adapted"):
        return ["adapted"]
    return [*takewhile(there, (f"adapted-{seed}" for seed in count()))] or ["universal"]


def is_finished(run: str) -> bool:
    """Whether a run directory on this machine is that of a finished run."""
    return Path(run, REPORT).is_file()


def _inside(run: AnyPath, prompt: str) -> list[AnyPath]:
    """The runs within a run, such as a comparison's, that have a prompt of that name."""
    found = [*run.glob(f"*/prompts/{prompt}{VECTORS}"), *run.glob(f"*/*/prompts/{prompt}{VECTORS}")]
    return sorted({path.parents[1] for path in found})


def _lacking(run: AnyPath) -> str:
    """Why a folder is no run directory, and which one is, or what makes one."""
    makes = "`mpt pretrain` and `mpt adapt` create one at --out"
    if not run.exists():
        return missing(run, "folder", makes)
    inside = sorted(path.parent for path in run.glob("*/config.yaml"))
    return f"{run}: no run directory (it has no config.yaml); {f'{inside[0]} is one' if inside else makes}"


def in_bank(path: str) -> bool:
    """Whether a prompt of a bank is meant; anything that is neither that nor a run is reported as a missing
    run."""
    if path.startswith(HUB):  # hf://owner/name is a run, hf://owner/name/NAME a prompt of a bank
        return path.removeprefix(HUB).rstrip("/").count("/") > 1
    if is_remote(path):
        return not path.startswith("gs://") or not (run_path(path) / "config.yaml").exists()
    return not Path(path).is_dir() and holds_prompts(str(Path(path).parent))


def check_start(prompt: str) -> None:
    """Refuses a prompt to start from that is neither a run's universal prompt nor one of a bank."""
    check_store(prompt)
    has_teachers = (Path(prompt) / "prompts" / f"teachers{VECTORS}").is_file()  # enough for some methods
    if not (has_teachers or is_remote(prompt) or in_bank(prompt)):
        find_prompt(run_path(prompt), "universal")


def holds_prompts(bank: str) -> bool:
    """Whether a bank on this machine has prompts."""
    return any(Path(bank_path(bank)).glob(f"*{VECTORS}"))


def check_bank(bank: str) -> None:
    """Refuses a folder without prompts; what a remote store holds is seen when it is read."""
    check_store(bank)
    if is_remote(bank) or holds_prompts(bank):
        return
    if not Path(bank).exists():
        raise UserError(missing(Path(bank), "folder", f"`mpt bank add RUN_DIR --bank {bank}` makes it"))
    raise UserError(empty(bank))


def empty(bank: str) -> str:
    """That a bank has no prompts, and what adds some."""
    return f"{bank}: no prompts in it; `mpt bank add RUN_DIR --bank {bank}` adds some"


def needs_task(run: AnyPath, known: Iterable[str]) -> str:
    """That one of the tasks of a run's prompt has to be named."""
    return f"{run}: it knows {', '.join(known)}; name one with --task"


def no_prompt(run: AnyPath, index: int, there: int) -> UserError:
    """That a run has no prompt of that index; ``there`` are as many, one per seed."""
    return UserError(f"{run}: no prompt {index}; it has {there}, one per seed, from 0")
