"""Eight prompts trained in one job, beside one prompt on as many rows, and beside PEFT's eight in turn.

python benchmarks/many_tasks.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import work
from duel import Worker, alternate, report, seconds

TASKS = ["movies", "products", "vader_tweets", "editorials", "sarcasm", "bbc", "tweets", "privacy"]
BATCH, PROMPT, WIDTH, LONGEST = 64, 16, 576, 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        batches = work.texts(TASKS, BATCH, rounds + 1, LONGEST)
        prompts = work.prompts(len(TASKS), PROMPT, WIDTH)
        one = [[(*row[:3], 0) for row in batch] for batch in batches]  # the same rows, all of one task
        many = {"model": work.SMOLLM2, **work.write(folder / "many", batches, prompts)}
        single = {"model": work.SMOLLM2, "gate": False, **work.write(folder / "one", one, prompts[:1])}
        with (
            Worker("mpt_worker", **many) as eight,
            Worker("mpt_worker", **single) as alone,
            Worker("peft_worker", **many) as peft,
        ):
            ours, lone, theirs = alternate([eight, alone, peft], rounds)
        row = {
            "tasks": len(TASKS),
            "prompt": PROMPT,
            "batch": BATCH,
            **work.describe(batches),
            "eight s": seconds(ours),
            "one s": seconds(lone),
            "eight/one": seconds(ours) / seconds(lone),
            "PEFT s": seconds(theirs),
            "times": seconds(theirs) / seconds(ours),
            "gradient differs by": work.gradient_difference(folder / "many"),
        }
    report("many_tasks", [row])


if __name__ == "__main__":
    main()
