"""The operations of a profile that take the longest."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

# Whose threads hold operations: a GPU's streams, or else what XLA's own threads on a CPU run.
THREADS = ("Stream", "XLA Ops", "XLA", "tf_XLA")


def longest_operations(folder: Path, count: int) -> list[dict[str, Any]]:
    """The names of operations with their share of all time, the longest first.

    Args:
        folder: what ``jax.profiler.trace`` has written.
    """
    traces = folder.rglob("*.trace.json.gz")
    file = max(traces, key=lambda file: file.stat().st_mtime)  # an earlier one may lie there
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    threads = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event.get("name") == "thread_name"
    }
    kind = next((kind for kind in THREADS if any(name.startswith(kind) for name in threads.values())), "")
    times: Counter[str] = Counter()
    for event in events:
        thread = threads.get((event.get("pid"), event.get("tid")), "")
        if event.get("ph") == "X" and thread.startswith(kind):
            times[described(event)] += event.get("dur", 0)
    whole = sum(times.values()) or 1
    return [{"share": time / whole, "operation": name} for name, time in times.most_common(count)]


def described(event: dict[str, Any]) -> str:
    """An operation's name, with that of the kernel and where in the program it comes from, if it says so."""
    args = event.get("args", {})
    parts = (event["name"], args.get("hlo_op"), args.get("tf_op") or args.get("name"))
    return " · ".join(dict.fromkeys(str(part)[:120] for part in parts if part))
