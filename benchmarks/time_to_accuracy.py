"""The time to an accuracy: `mpt adapt` with its defaults, and PEFT's prompt tuning on the same rows.

    python benchmarks/time_to_accuracy.py TASK.yaml... [--draws 0 1] [--rate 0.3] [--start instruction]
    python benchmarks/time_to_accuracy.py --tune TASK.yaml... [--rates 0.03 0.1 0.3]

mpt's time is that of the whole command, from its start to its end; the goal is its accuracy on validation
rows. PEFT's time is that of loading and of its steps: what it spends on evaluations is not counted, and the
first evaluation that reaches the goal ends it, or `--most` times mpt's time. PEFT has the rate and the start
that were best with `--tune` on other tasks. Finished pairs are kept in `results/time_to_accuracy.json`, and
the command resumes after them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import work
from duel import HERE, Worker, report
from mpt.adaptation.draws import held_out, training_rows
from mpt.catalog.library import find_task
from mpt.config.options import PromptConfig
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.prompts.initial import starting_vectors

NAME = "time_to_accuracy"
LENGTH, LONGEST = 32, 96  # prompt vectors; the most tokens of an input
STARTS = ("instruction", "vocabulary")


class Recipe(NamedTuple):
    """How PEFT trains.

    Attributes:
        start: what its vectors start from.
        rate: Adam's learning rate.
        batch: rows of a step.
        every: steps between evaluations.
    """

    start: str
    rate: float
    batch: int = 16
    every: int = 10


def adapted(task: str, draw: int, options: argparse.Namespace) -> tuple[float, float]:
    """The seconds of `mpt adapt`, and the accuracy of its prompt on validation rows."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "mpt.cli", "adapt", "few_shot", "--task", task, "--prompt", ""]
        command += ["--shots", str(options.shots), "--seeds", str(draw), "--scored", "validation"]
        command += ["--test-rows", str(options.rows), "--no-baselines", "--out", f"{scratch}/run"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        (result,) = json.loads(Path(scratch, "run", "results.json").read_text())
    return seconds, result["scores"][0]


def give(folder: Path, task_file: str, draw: int, start: str, pretrained: Pretrained, options: Any) -> None:
    """Writes what PEFT reads: the rows that `mpt adapt` draws, validation rows, and initial vectors."""
    task = find_task(task_file)
    _, (train,) = training_rows(task, options.shots, [draw], LONGEST, pretrained)
    asked = held_out(task, "validation", options.rows, LONGEST, pretrained).rows
    rows = {
        "train": [(list(map(int, row.inputs)), list(map(int, row.targets))) for row in train],
        "validation": [
            (list(map(int, row.inputs)), [list(map(int, ids)) for ids in row.choices], row.label)
            for row in asked
        ],
    }
    vectors = starting_vectors(PromptConfig(length=LENGTH, start=start), [task], [draw], pretrained)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(rows))
    np.save(folder / "prompts.npy", np.asarray(vectors))


def trained(folder: Path, recipe: Recipe, draw: int, goal: float, most: float) -> list[tuple[float, float]]:
    """PEFT's (seconds, accuracy) at each evaluation, up to the goal or to ``most`` seconds."""
    setup = {"model": work.SMOLLM2, "folder": str(folder), "rate": recipe.rate}
    with Worker("peft_tuner", batch=recipe.batch, seed=draw, **setup) as peft:
        seconds, curve = peft.ready["seconds"], []
        while seconds < most and (not curve or curve[-1][1] < goal):
            seconds += peft.ask(job="train", steps=recipe.every)["seconds"]
            curve.append((seconds, peft.ask(job="evaluate")["accuracy"]))
    return curve


def pair(task: str, draw: int, options: argparse.Namespace, pretrained: Pretrained) -> dict[str, Any]:
    """One task and draw by both."""
    seconds, goal = adapted(task, draw, options)
    recipe = Recipe(options.start, options.rate)
    with tempfile.TemporaryDirectory() as scratch:
        give(Path(scratch), task, draw, recipe.start, pretrained, options)
        curve = trained(Path(scratch), recipe, draw, goal, options.most * seconds)
    reached = curve[-1][1] >= goal
    return {
        "task": Path(task).stem,
        "draw": draw,
        "mpt seconds": seconds,
        "mpt accuracy": goal,
        "PEFT seconds": curve[-1][0],
        "PEFT's best": max(accuracy for _, accuracy in curve),
        "reached": reached,
        "times": curve[-1][0] / seconds,
        "curve": curve,
    }


def tune(options: argparse.Namespace, pretrained: Pretrained) -> None:
    """Prints each rate's and start's best accuracy on each task within `--seconds`."""
    for task, start, rate in product(options.tasks, STARTS, options.rates):
        with tempfile.TemporaryDirectory() as scratch:
            give(Path(scratch), task, 0, start, pretrained, options)
            curve = trained(Path(scratch), Recipe(start, rate), 0, goal=2.0, most=options.seconds)
        best = max(accuracy for _, accuracy in curve)
        print(f"{Path(task).stem}, {start}, rate {rate:g}: {best:.3f} in {curve[-1][0]:.0f} s", flush=True)


def draw_curves(rows: list[dict[str, Any]]) -> None:
    """PEFT's accuracy over time, and where mpt's command ended: one picture per task."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(3 * len(tasks), 3), layout="constrained", squeeze=False
    )
    for axis, task in zip(axes[0], tasks):
        for row in (row for row in rows if row["task"] == task):
            axis.plot(*zip(*row["curve"]), "-", color="C1", label="PEFT")
            axis.plot(row["mpt seconds"], row["mpt accuracy"], "o", color="C0", label="mpt adapt")
        axis.set(title=task, xlabel="seconds", xlim=(0, None), ylim=(0, 1))
    axes[0][0].set_ylabel("accuracy on validation rows")
    handles, labels = axes[0][0].get_legend_handles_labels()
    named = dict(zip(labels, handles))
    axes[0][0].legend(named.values(), named.keys())
    figure.savefig(HERE / "results" / f"{NAME}.png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tasks", nargs="+", help="task files with class words and a validation split")
    parser.add_argument("--draws", type=int, nargs="+", default=[0], help="seeds of the training rows")
    parser.add_argument("--shots", type=int, default=16, help="training rows per class")
    parser.add_argument("--rows", type=int, default=200, help="validation rows")
    parser.add_argument("--rate", type=float, default=0.03, help="PEFT's learning rate")
    parser.add_argument(
        "--start", choices=STARTS, default="instruction", help="what PEFT's vectors start from"
    )
    parser.add_argument("--most", type=float, default=10, help="PEFT ends after so many times mpt's time")
    parser.add_argument("--tune", action="store_true", help="try PEFT's rates and starts instead")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[0.003, 0.01, 0.03, 0.1], help="with --tune"
    )
    parser.add_argument("--seconds", type=float, default=600, help="of each trial, with --tune")
    options = parser.parse_args()
    pretrained = load_pretrained(work.SMOLLM2)
    if options.tune:
        tune(options, pretrained)
        return
    kept = HERE / "results" / f"{NAME}.json"
    rows = json.loads(kept.read_text())["rows"] if kept.is_file() else []
    for task, draw in product(options.tasks, options.draws):
        if not any((row["task"], row["draw"]) == (Path(task).stem, draw) for row in rows):
            rows.append(pair(task, draw, options, pretrained))
            report(NAME, rows)
    draw_curves(rows)


if __name__ == "__main__":
    main()
