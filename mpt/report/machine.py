"""Records the machine and the software of a run, and how much memory its process used."""

from __future__ import annotations

import json
import platform
import resource
import sys
from typing import Any

import jax

from mpt.prompts.saved import software
from mpt.rundir.directory import write_atomic
from mpt.system.paths import AnyPath

FILE = "machine.json"


def keep_machine(run: AnyPath) -> None:
    """Writes machine.json, with the peak memory of this process so far and of its first device."""
    device = jax.local_devices()[0]
    peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    machine = {
        "system": platform.platform(),
        "devices": f"{jax.device_count()} × {device.device_kind}",
        "processes": jax.process_count(),
        "peak_memory": peak_memory,
        "peak_device_memory": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "software": {"python": platform.python_version(), **software()},
    }
    write_atomic(run / FILE, json.dumps(machine, indent=2) + "\n")


def kept_machine(run: AnyPath) -> dict[str, Any]:
    """Reads machine.json; empty if there is none."""
    return json.loads((run / FILE).read_text()) if (run / FILE).exists() else {}
