"""Every mesh of eight devices beside one device: loss, gradient, trained prompt, and what crosses the network.

    python benchmarks/sharding.py

The devices are simulated on the CPU, the models are tiny and random: equality is measured, and bytes,
not time. Writes results/sharding.json and prints the tables of docs/sharding.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
FAMILIES = {"t5": "T5", "umt5": "UMT5", "llama": "Llama", "gemma2": "Gemma 2", "gpt2": "GPT-2"}
# NPROC: else eight devices on few cores can wait for each other for too long.
SIMULATED = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "JAX_PLATFORMS": "cpu",
    "NPROC": "16",
}


def measured(family: str) -> dict:
    """What the worker finds, in a process of its own: only that can have eight devices."""
    command = [sys.executable, str(FOLDER / "sharding_worker.py"), family]
    done = subprocess.run(command, env=os.environ | SIMULATED, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def table(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def equality(found: dict[str, dict]) -> str:
    lines = [
        [FAMILIES[family], mesh, f"{line['loss']:.0e}", f"{line['gradient']:.0e}"]
        + [f"{line['prompt']:.0e}" if "prompt" in line else ""]
        for family, result in found.items()
        for mesh, line in result["meshes"].items()
    ]
    return table(["model", "data × fsdp × tensor", "loss", "gradient", "prompt after 20 steps"], lines)


def collectives(found: dict[str, dict]) -> str:
    lines = [
        [FAMILIES[family], mesh, f"{result['gradient bytes']:,}"]
        + [", ".join(f"{kind} {count:,}" for kind, count in line["bytes"].items())]
        for family, result in found.items()
        for mesh, line in result["meshes"].items()
    ]
    return table(["model", "data × fsdp × tensor", "gradient", "bytes of collectives"], lines)


if __name__ == "__main__":
    results = {family: measured(family) for family in FAMILIES}
    (FOLDER / "results" / "sharding.json").write_text(json.dumps(results, indent=2) + "\n")
    print(equality(results), collectives(results), sep="\n\n")
