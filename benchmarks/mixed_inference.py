"""Class scoring of rows of eight tasks in one batch, mpt beside PEFT, which switches adapters.

python benchmarks/mixed_inference.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import work
from duel import Worker, alternate, report, versus
from many_tasks import BATCH, LONGEST, TASKS, WIDTH

PROMPT = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows = []
    for prompt in (16, PROMPT):
        with tempfile.TemporaryDirectory() as scratch:
            batches = work.texts(TASKS, BATCH, rounds + 1, LONGEST)
            given = work.write(Path(scratch), batches, work.prompts(len(TASKS), prompt, WIDTH))
            setup = {"model": work.SMOLLM2, "job": "infer", **given}
            with Worker("peft_worker", **setup) as peft, Worker("mpt_worker", **setup) as mpt:
                theirs, ours = alternate([peft, mpt], rounds)
        agreed = [a == b for x, y in zip(theirs, ours) for a, b in zip(x["found"], y["found"])]
        rows.append(
            {
                "tasks": len(TASKS),
                "prompt": prompt,
                "batch": BATCH,
                **work.describe(batches),
                **versus(theirs, ours, BATCH),
                "same answers": sum(agreed) / len(agreed),
            }
        )
    report("mixed_inference", rows)


if __name__ == "__main__":
    main()
