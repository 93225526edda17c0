"""Every mesh of eight devices beside one: loss, gradient, trained prompt, and what crosses the network.

    python benchmarks/sharding.py

The devices are simulated on the CPU, the models are tiny and random: equality is measured, and bytes,
not time. Writes results/sharding.json and prints the tables of docs/sharding.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mpt.plan.collectives import KINDS

FOLDER = Path(__file__).parent
FAMILIES = {"t5": "T5", "umt5": "UMT5", "llama": "Llama", "gemma2": "Gemma 2", "gpt2": "GPT-2"}
# NPROC: else eight devices on few cores can wait for each other for too long. Without the optimisations
# of machine code, compiling takes half the time; the collectives are the same.
SIMULATED = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PLATFORMS": "cpu",
    "NPROC": "16",
}


def measured(family: str) -> dict:
    """What the worker finds, in a process of its own: only that can have eight devices."""
    command = [sys.executable, str(FOLDER / "sharding_worker.py"), family, "all"]
    done = subprocess.run(command, env=os.environ | SIMULATED, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def table(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def lines(found: dict[str, dict]) -> Iterator[tuple[list[str], dict, dict]]:
    """Each line's model and mesh, with what the model and the mesh have given."""
    for family, result in found.items():
        for mesh, line in result["meshes"].items():
            yield [FAMILIES[family], mesh], result, line


def equality(found: dict[str, dict]) -> str:
    def figures(line: dict) -> list[str]:
        return [f"{line[name]:.0e}" for name in ("loss", "gradient", "prompt")]

    header = ["model", "data × fsdp × tensor", "loss", "gradient", "prompt after 20 steps"]
    return table(header, [[*names, *figures(line)] for names, _, line in lines(found)])


def collectives(found: dict[str, dict]) -> str:
    header = ["model", "data × fsdp × tensor", "the prompt's gradient", *KINDS]
    return table(
        header,
        [
            [*names, f"{result['gradient bytes']:,}", *(f"{line['bytes'].get(kind, 0):,}" for kind in KINDS)]
            for names, result, line in lines(found)
        ],
    )


if __name__ == "__main__":
    results = {family: measured(family) for family in FAMILIES}
    (FOLDER / "results" / "sharding.json").write_text(json.dumps(results, indent=2) + "\n")
    print(equality(results), collectives(results), sep="\n\n")
