"""Two programs side by side: a process each, only one of them working at a time.

A worker answers each line of JSON on its standard input with one on its standard output. Pairs of runs
alternate, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from mpt.system.quiet import hide_compiler

HERE = Path(__file__).parent
hide_compiler()  # as the command does: the workers inherit it


class Ended(SystemExit):
    """A worker's process is gone before it has answered."""


class Worker:
    """A program in a process of its own; use as a context manager."""

    def __init__(
        self,
        script: str,
        *,
        environment: Mapping[str, str] | None = None,
        within: float | None = None,
        **setup: Any,
    ):
        self.name = script
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / f"{script}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.ready = self.ask(within=within, **setup)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()

    def ask(self, *, within: float | None = None, **request: Any) -> dict[str, Any]:
        """The worker's answer.

        Args:
            within: seconds after which the worker is killed.

        Raises:
            Ended: there is none.
        """
        assert self._process.stdin and self._process.stdout
        alarm = threading.Timer(within or threading.TIMEOUT_MAX, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            late = not alarm.is_alive()
            alarm.cancel()
        if not answer:
            reason = f"gave no answer in {within:.0f} s" if late else f"ended with {self._process.wait()}"
            raise Ended(f"{self.name} {reason}")
        return json.loads(answer)


def answer(prepare: Callable[..., Callable[..., dict[str, Any]]]) -> None:
    """A worker's life: ``prepare`` is given the first request, and makes what answers the others."""
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not look like an answer

    def reply(result: dict[str, Any], seconds: float) -> None:
        print(json.dumps({**result, "seconds": seconds, "peak": peak()}), file=out, flush=True)

    began = time.perf_counter()
    work = prepare(**json.loads(sys.stdin.readline()))
    reply({}, time.perf_counter() - began)
    for line in sys.stdin:
        began = time.perf_counter()
        result = work(**json.loads(line))
        reply(result, time.perf_counter() - began)


def peak() -> float:
    """This process's peak resident memory, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def alternate(workers: list[Worker], rounds: int, **request: Any) -> list[list[dict[str, Any]]]:
    """Each worker's answers; the first, which compiles and allocates, is left out."""
    answers: list[list[dict[str, Any]]] = [[] for _ in workers]
    for number in range(rounds + 1):
        for worker, own in zip(workers, answers):
            own.append(worker.ask(number=number, **request))
    return [own[1:] for own in answers]


def seconds(answers: list[dict[str, Any]]) -> float:
    """The median time of one request."""
    return median(answer["seconds"] for answer in answers)


def typical_seconds(run: Callable[[], Any], enough: float, least: int = 3, most: int = 30) -> float:
    """The median time of several runs, as many as ``enough`` seconds hold."""
    times: list[float] = []
    while len(times) < least or (sum(times) < enough and len(times) < most):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return median(times)


def versus(theirs: list[dict[str, Any]], ours: list[dict[str, Any]], rows: int) -> dict[str, float]:
    """PEFT's answers beside mpt's: rows per second, and each one's peak memory."""
    return {
        "PEFT rows/s": rows / seconds(theirs),
        "mpt rows/s": rows / seconds(ours),
        "times": seconds(theirs) / seconds(ours),
        "PEFT MB": theirs[-1]["peak"],
        "mpt MB": ours[-1]["peak"],
        "memory share": ours[-1]["peak"] / theirs[-1]["peak"],
    }


def machine() -> dict[str, Any]:
    """Where and with what figures were found."""
    packages = ("jax", "flax", "torch", "transformers", "peft")
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "processor": model[0].split(":")[1].strip() if model else platform.machine(),
        "cores": len(model),
        **{name: version(name) for name in packages if find_spec(name)},
    }


def report(name: str, rows: list[dict[str, Any]]) -> None:
    """Prints a table, without lists, and writes ``results/NAME.json``."""
    header = [name for name, value in rows[0].items() if not isinstance(value, list)]
    shown = [
        [f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in header]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *shown)]
    for line in (header, ["-" * width for width in widths], *shown):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")
    file = HERE / "results" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
