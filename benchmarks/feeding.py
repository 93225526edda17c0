"""How fast rows come from the cache, how much of a batch is padding, and what ten million rows take.

    python benchmarks/feeding.py [--rows 10_000_000]

Mixtures of packaged tasks as `mpt pretrain` reads them, without a model; then a made-up JSONL file,
split by hash, tokenised and read once, with the peak memory of the process and its workers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import work
from duel import peak, report
from mpt.catalog.library import find_task
from mpt.config.options import TrainConfig
from mpt.data.mixture import training_batches
from mpt.data.stored import stored_rows
from mpt.data.taskfile import read_task
from mpt.loading.hf import load_tokenizer
from mpt.types import Shards

TASKS = ["products", "vader_tweets", "bbc", "sarcasm", "boolq", "privacy"]
SECONDS = 10
WORDS = ("a", "the", "plot", "cast", "film", "scene", "joke", "ending", "is", "was", "seems", "dull", "slow")


def read(tasks: list[str], batch_size: int, shards: Shards) -> tuple[int, float]:
    """Rows per second of one process, and the share of its tokens that only fill up."""
    tokenizer, layout = load_tokenizer(work.SMOLLM2)
    rows = [stored_rows(find_task(name), "train", tokenizer, 256, layout) for name in tasks]
    config = TrainConfig(steps=10**6, batch_size=batch_size, sampling="proportional")
    batches = iter(training_batches(rows, config, 0, shards=shards))
    next(batches)
    count = text = tokens = 0
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        batch = next(batches)
        count, text = count + batch.numbers.size, text + int(np.sum(batch.cells < batch.grid[0, 0].size))
        tokens += batch.tokens.size
    return round(count / (time.perf_counter() - began)), 1 - text / tokens


def feeding() -> None:
    found = []
    for batch_size in (32, 256):
        read(TASKS, batch_size, Shards((0,), 1))  # fills the cache
        cores = os.cpu_count() or 1
        with get_context("spawn").Pool(cores) as pool:
            both = pool.starmap(
                read, [(TASKS, batch_size * cores, Shards((i,), cores)) for i in range(cores)]
            )
        rate, padding = read(TASKS, batch_size, Shards((0,), 1))
        found.append(
            {
                "tasks": len(TASKS),
                "batch": batch_size,
                "rows/s, one process": rate,
                f"rows/s, {cores} processes": sum(rate for rate, _ in both),
                "padding": padding,
            }
        )
    report("feeding", found)


def write_reviews(folder: Path, count: int) -> Path:
    """A task file beside ``count`` short rows, nearly all distinct."""
    rng = np.random.default_rng(0)
    words = np.array(WORDS)
    with (folder / "reviews.jsonl").open("w") as file:
        for start in range(0, count, 10_000):
            drawn = words[rng.integers(0, len(words), (min(10_000, count - start), 12))]
            for number, text in enumerate(drawn, start):
                row = {"text": f"{' '.join(text)} {number}", "label": ("bad", "good")[number % 2]}
                file.write(json.dumps(row) + "\n")
    task = {
        "source": "reviews.jsonl",
        "template": "{text}\nSentiment:",
        "verbalizer": {"bad": "bad", "good": "good"},
    }
    (folder / "reviews.yaml").write_text(json.dumps(task))
    return folder / "reviews.yaml"


def large(count: int) -> None:
    tokenizer, layout = load_tokenizer(work.SMOLLM2)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MPT_CACHE"] = scratch
        task = read_task(write_reviews(Path(scratch), count))
        before, began = peak(), time.perf_counter()
        rows = stored_rows(task, "train", tokenizer, 64, layout)
        took = time.perf_counter() - began
        config = TrainConfig(steps=10**6, batch_size=256)
        began = time.perf_counter()
        read = sum(len(b.numbers[0]) for b in itertools.islice(training_batches([rows], config, 0), 2000))
        workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
        row = {
            "rows of the file": count,
            "train rows": len(rows),
            "tokenised in s": took,
            "rows/s read": round(read / (time.perf_counter() - began)),
            "peak MB before": before,
            "peak MB": peak(),
            "a worker's peak MB": workers,
        }
    report("feeding_large", [row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    feeding()
    large(options.rows)


if __name__ == "__main__":
    main()
