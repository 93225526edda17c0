"""A prompt-tuning step on SmolLM2-135M, mpt beside PEFT: rows per second and peak memory.

    python benchmarks/decoder_step.py [--rounds 7]

The last table is mpt alone: 256 rows, in parts of 32.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import work
from duel import Worker, alternate, report, seconds, versus

BATCH, WIDTH, LONGEST = 32, 576, 64


def compare(folder: Path, length: int, rounds: int) -> dict[str, Any]:
    batches = work.texts(["tweets"], BATCH, rounds + 1, LONGEST)
    setup = {"model": work.SMOLLM2, **work.write(folder, batches, work.prompts(1, length, WIDTH))}
    with Worker("peft_worker", **setup) as peft, Worker("mpt_worker", **setup) as mpt:
        theirs, ours = alternate([peft, mpt], rounds)
    return {
        "prompt": length,
        "batch": BATCH,
        **work.describe(batches),
        **versus(theirs, ours, BATCH),
        "gradient differs by": work.gradient_difference(folder),
    }


def in_parts(folder: Path, length: int, parts: int) -> dict[str, Any]:
    batch = BATCH * parts
    batches = work.texts(["tweets"], batch, 2, LONGEST)
    setup = {"model": work.SMOLLM2, **work.write(folder, batches, work.prompts(1, length, WIDTH))}
    with Worker("mpt_worker", parts=parts, gate=False, **setup) as mpt:
        (ours,) = alternate([mpt], 1)
    rate = {"mpt rows/s": batch / seconds(ours), "mpt MB": ours[-1]["peak"]}
    return {"prompt": length, "batch": batch, **work.describe(batches), **rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 20])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [compare(Path(scratch) / str(length), length, options.rounds) for length in options.lengths]
        rows.append(in_parts(Path(scratch) / "parts", options.lengths[0], 8))
    report("decoder_step", rows[:-1])
    report("decoder_step_in_parts", rows[-1:])


if __name__ == "__main__":
    main()
