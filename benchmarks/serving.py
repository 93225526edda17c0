"""Many clients at once against `mpt serve`: throughput, waiting, and whether anything is lost.

    python benchmarks/serving.py RUN [RUN ...] [--clients 4 16 64] [--seconds 20]

Each client asks for one class after another, the tasks in turn; a refusal with Retry-After is asked
again after that time. The last load is more than the queue holds; and once more with SIGTERM half-way, when
clients go away as soon as nothing listens. A request is lost if it gets no answer, or another one than 200,
429 or 503 with Retry-After.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from statistics import quantiles

import httpx2

from duel import report
from mpt.catalog.library import find_task

PATIENCE = 120  # seconds without an answer are a hang
COLD = 600  # seconds of a server that compiles
TEXTS = 200  # of each task


@contextmanager
def server(runs: list[str], *options: str) -> Iterator[tuple[str, float, Callable[[], None]]]:
    """A server of its own; gives its address, the seconds until it was ready, and what asks it to stop."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "mpt.cli", "serve", *runs, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        said, found = "", None
        while not found and (line := process.stderr.readline()):
            said, found = said + line, re.search(r"http://[^;\s]+", line)
        if not found:
            raise SystemExit(said)
        while httpx2.get(f"{found[0]}/health/ready", timeout=PATIENCE).status_code != 200:
            if time.perf_counter() - began > COLD or process.poll() is not None:
                raise SystemExit("the server does not get ready")
            time.sleep(0.2)
        stop = cache(process.terminate)  # a second signal would end it at once
        yield found[0], time.perf_counter() - began, stop
        stop()
        if process.wait(timeout=PATIENCE):
            raise SystemExit(f"the server ended with {process.returncode}: {process.stderr.read()}")
    finally:
        process.kill()


async def load(
    address: str,
    texts: list[tuple[str, dict]],
    clients: int,
    seconds: float,
    stop: Callable[[], None] | None = None,
) -> dict[str, float]:
    """What ``clients`` meet, each asking again and again for so many seconds; half-way comes ``stop``."""
    waited: list[float] = []
    counts: Counter[str] = Counter()
    stopped = asyncio.Event()
    began = time.perf_counter()

    async def client(http: httpx2.AsyncClient, number: int) -> None:
        turn = number
        while time.perf_counter() - began < seconds:
            task, inputs = texts[turn % len(texts)]
            turn += clients
            asked = time.perf_counter()
            try:
                response = await http.post("/v1/classify", json={"task": task, "inputs": inputs})
            except httpx2.HTTPError as error:
                if stopped.is_set() and isinstance(error, httpx2.ConnectError):
                    return  # nothing listens any more
                counts[f"lost: {type(error).__name__}"] += 1
                continue
            if response.status_code == 200:
                waited.append(time.perf_counter() - asked)
            elif response.status_code in (429, 503) and "Retry-After" in response.headers:
                counts["refused"] += 1
                await asyncio.sleep(float(response.headers["Retry-After"]))
            else:
                counts[f"lost: {response.status_code}"] += 1

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits) as http:
        asking = asyncio.gather(*(client(http, number) for number in range(clients)))
        if stop:
            await asyncio.sleep(seconds / 2)
            stopped.set()
            stop()
        await asking
    took = time.perf_counter() - began
    cuts = quantiles(waited, n=100)
    return {
        "clients": clients,
        "answered": len(waited),
        "answers/s": len(waited) / took,
        "p50 s": cuts[49],
        "p95 s": cuts[94],
        "refused": counts["refused"],
        "lost": sum(count for kind, count in counts.items() if kind.startswith("lost")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64, 128])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--queue", type=int, default=64)
    options = parser.parse_args()
    rows = []
    for most in (16, 1):  # the second finds its programs compiled
        limits = ("--max-batch", str(most), "--queue", str(options.queue))
        with server(options.runs, *limits) as (address, ready, stop):
            names = [
                model["id"] for model in httpx2.get(f"{address}/v1/models", timeout=PATIENCE).json()["data"]
            ]
            rows_of = [find_task(name).sample("test", TEXTS) for name in names]
            texts = [(name, dict(row.fields)) for turn in zip(*rows_of) for name, row in zip(names, turn)]
            for clients, asked in [
                *((count, None) for count in options.clients),
                (options.clients[-1], stop),
            ]:
                found = asyncio.run(load(address, texts, clients, options.seconds, asked))
                rows.append(
                    {
                        "tasks": len(names),
                        "max batch": most,
                        "queue": options.queue,
                        "ready s": ready,
                        "SIGTERM": bool(asked),
                        **found,
                    }
                )
        report("serving", rows)


if __name__ == "__main__":
    main()
