"""A prompt-tuning step on SmolLM2-135M, mpt beside PEFT: rows per second and peak memory.

python benchmarks/decoder_step.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import work
from duel import Worker, alternate, report, seconds

BATCH, WIDTH = 32, 576


def compare(folder: Path, length: int, rounds: int) -> dict:
    batches = work.texts(["movies"], BATCH, rounds + 1, 64)
    task = work.write(folder, batches, work.prompts(1, length, WIDTH))
    setup = {"model": work.SMOLLM2, "job": "train", **task}
    with Worker("peft_worker", **setup) as peft, Worker("mpt_worker", **setup) as mpt:
        theirs, ours = alternate([peft, mpt], rounds)
    rates = [BATCH / seconds(answers) for answers in (theirs, ours)]
    peaks = [answers[-1]["peak"] for answers in (theirs, ours)]
    return {
        "prompt": length,
        **work.describe(batches),
        "peft rows/s": rates[0],
        "mpt rows/s": rates[1],
        "times": rates[1] / rates[0],
        "peft MB": peaks[0],
        "mpt MB": peaks[1],
        "memory share": peaks[1] / peaks[0],
        "gradient differs by": work.gradient_difference(folder),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 20])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [compare(Path(scratch) / str(length), length, options.rounds) for length in options.lengths]
    report("decoder_step", rows)


if __name__ == "__main__":
    main()
