"""A step of universal pretraining beside a plain prompt-tuning step on the same rows.

Once with the teachers' pass in it, once with their outputs read from the cache.

python benchmarks/distillation.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import work
from duel import Worker, alternate, report, seconds

TASKS, BATCH, PROMPT, WIDTH, LONGEST = ["products", "vader_tweets", "bbc", "sarcasm"], 32, 16, 576, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        batches = work.texts(TASKS, BATCH, rounds + 1, LONGEST)
        given = work.write(Path(scratch), batches, work.prompts(len(TASKS), PROMPT, WIDTH))
        setup = {"model": work.SMOLLM2, "gate": False, **given}
        with (
            Worker("mpt_worker", job="train", **setup) as plain,
            Worker("mpt_worker", job="distil", **setup) as distil,
            Worker("mpt_worker", job="distil cached", **setup) as cached,
        ):
            alone, taught, known = alternate([plain, distil, cached], rounds)
    row = {
        "tasks": len(TASKS),
        "prompt": PROMPT,
        "batch": BATCH,
        **work.describe(batches),
        "plain s": seconds(alone),
        "distilling s": seconds(taught),
        "distilling/plain": seconds(taught) / seconds(alone),
        "cached s": seconds(known),
        "cached/plain": seconds(known) / seconds(alone),
    }
    report("distillation", [row])


if __name__ == "__main__":
    main()
