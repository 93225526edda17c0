"""Writes the golden files from live runs, or with ``--check`` tells where a live run no longer gives them."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from golden import FOLDER, naive, references  # noqa: F401, they fill the registry
from golden.registry import GOLDENS
from safetensors.numpy import load_file

from mpt.system.quiet import hide_compiler

LIMIT = 1e-5  # of the quantity's largest value
VERSIONS = ("versions", "peft_version")


def make() -> None:
    for path in _files(FOLDER):
        (FOLDER / path).unlink()
    for write in GOLDENS.values():
        write(FOLDER)


def faults() -> list[str]:
    """A line for each file and each quantity that is not what a live run gives."""
    with tempfile.TemporaryDirectory() as fresh:
        for write in GOLDENS.values():
            write(Path(fresh))
        kept, live = _files(FOLDER), _files(Path(fresh))
        lines = [f"{path}: left over, nothing makes it" for path in sorted(kept - live)]
        lines += [f"{path}: missing" for path in sorted(live - kept)]
        for path in sorted(kept & live):
            compared = _of_json if path.endswith(".json") else _of_arrays
            lines += [f"{path}: {fault}" for fault in compared(FOLDER / path, Path(fresh, path))]
    return lines


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for end in ("json", "safetensors") for path in folder.rglob(f"*.{end}")
    }


def _of_json(kept: Path, live: Path) -> list[str]:
    """Which entries differ, but for the versions of what made them."""
    old, new = (json.loads(path.read_text()) for path in (kept, live))
    names = [name for name in old | new if name not in VERSIONS and old.get(name) != new.get(name)]
    return [f"{name} is {old.get(name)}, live {new.get(name)}" for name in names]


def _of_arrays(kept: Path, live: Path) -> list[str]:
    old, new = load_file(kept), load_file(live)
    lines = [
        f"{name}: only in {'the file' if name in old else 'the live run'}" for name in old.keys() ^ new.keys()
    ]
    for name in sorted(old.keys() & new.keys()):
        if (difference := _difference(old[name], new[name])) > LIMIT:
            lines.append(f"{name}: differs by {difference:.1e} of its largest value")
    return lines


def _difference(old: np.ndarray, new: np.ndarray) -> float:
    """Relative to the largest value; whole numbers and shapes are the same or infinitely far."""
    if old.shape != new.shape or old.dtype != new.dtype:
        return np.inf
    if old.dtype.kind != "f":
        return 0.0 if np.array_equal(old, new) else np.inf
    return float(np.abs(old - new).max() / np.abs(old).max())


if __name__ == "__main__":
    hide_compiler()
    if "--check" not in sys.argv[1:]:
        make()
    elif found := faults():
        sys.exit("\n".join(found))
