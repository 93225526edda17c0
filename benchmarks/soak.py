"""Kills a training run again and again, resumes it, and asks for the prompts of an undisturbed run.

    python benchmarks/soak.py [--kills 100] [--steps 120] [--seed 0]

`mpt pretrain` on a random model of two layers, with a checkpoint every 4 steps. Each process gets SIGKILL
at a moment drawn at random: by the clock, so many steps into its training, or as a save has begun. A run
that finishes before all kills are spent is compared, and another is begun. Writes results/soak.json.
Takes half an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from toys import finish, start_mpt, write_llama, write_task  # noqa: E402

STAGES = ("teachers", "universal")


def steps(run: Path) -> int:
    """Steps that are written down; a process that goes on first takes back those after its checkpoint."""
    files = (run / stage / "metrics.jsonl" for stage in STAGES)
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def saving(run: Path) -> bool:
    """A checkpoint is being written, or was: it has no name of its own yet."""
    return any("tmp" in path.name for stage in STAGES for path in (run / stage / "checkpoints").glob("*"))


def kill(process: subprocess.Popen, run: Path, rng: random.Random, startup: float) -> str:
    """Kills the process at some moment, and tells in what; "" if it has finished before.

    Args:
        startup: seconds that a process usually takes to its first step.
    """
    began, last, taken = time.monotonic(), steps(run), 0
    aim, after, ahead = (
        rng.choice(("clock", "steps", "save")),
        rng.uniform(0, 1.3 * startup),
        rng.randint(1, 20),
    )
    while process.poll() is None:
        now, since = steps(run), time.monotonic() - began
        taken, last = taken + max(now - last, 0), now
        if since > after if aim == "clock" else taken >= ahead and (aim == "steps" or saving(run)):
            process.kill()
            break
        time.sleep(0.002)
    _, error = process.communicate()
    if process.returncode == 0:
        return ""
    assert process.returncode == -9, error
    return "save" if taken and saving(run) else "training" if taken else "startup"


def undisturbed(command: list[str], run: Path) -> tuple[float, float]:
    """Runs to the end; returns the seconds to the first step, and to the end."""
    began, first = time.monotonic(), 0.0
    process = start_mpt(*command, str(run))
    while process.poll() is None and not first:
        time.sleep(0.01)
        first = time.monotonic() - began if steps(run) else 0.0
    finish(process)
    return first, time.monotonic() - began


def prompts(run: Path) -> dict[str, bytes]:
    return {stage: (run / "prompts" / f"{stage}.safetensors").read_bytes() for stage in STAGES}


def soak(folder: Path, kills: int, length: int, seed: int) -> dict[str, float]:
    """Spends the kills, and returns how many fell where.

    Raises:
        AssertionError: a process failed, or a run's prompts are others.
    """
    rng, config = random.Random(seed), folder / "pretrain.yaml"
    stage = {"steps": length, "batch_size": 8, "save_every": 4}
    tasks = [str(write_task(folder, name)) for name in ("tone", "colour")]
    plain = {"model": {"name": str(write_llama(folder / "tiny"))}, "tasks": tasks, "max_length": 24}
    config.write_text(json.dumps(plain | {"vectors": {"length": 4}} | dict.fromkeys(STAGES, stage)))
    command = ["pretrain", str(config), "--out"]
    finish(start_mpt(*command, str(folder / "first")))  # which compiles
    startup, whole = undisturbed(command, folder / "whole")
    fell, run, runs = Counter(), folder / "run-0", 0
    while fell.total() < kills or not has_ended(run):
        process = start_mpt(*command, str(run))
        if fell.total() == kills:
            finish(process)
        elif place := kill(process, run, rng, startup):
            fell[place] += 1
            print(f"kill {fell.total()} of {kills}: {place}, run {runs}, {steps(run)} steps", flush=True)
        if has_ended(run):
            assert prompts(run) == prompts(folder / "whole"), f"{run}: prompts differ after {fell}"
            runs += 1
            run = run if fell.total() == kills else folder / f"run-{runs}"
    return {"kills": kills, **fell, "runs": runs, "startup s": startup, "undisturbed s": whole}


def has_ended(run: Path) -> bool:
    return all((run / "prompts" / f"{stage}.safetensors").exists() for stage in STAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=120, help="of each of the two stages")
    parser.add_argument("--seed", type=int, default=0)
    order = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"MPT_CACHE": str(Path(scratch) / "cache"), "HF_HUB_OFFLINE": "1"}
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        found = soak(Path(scratch), order.kills, order.steps, order.seed)
    print(json.dumps(found))
    if order.kills >= 100:
        from duel import report

        report("soak", [found])


if __name__ == "__main__":
    main()
