"""How close a train step comes to the machine's own rate of matrix products.

    python benchmarks/limit.py [--rounds 7]

What a step must compute, says mpt/models/cost.py. Elementwise work, recomputation and padding are not
counted: they are what keeps a step from the limit, and attention's own products, which are small: SmolLM2's
heads are 64 wide.
"""

from __future__ import annotations

import argparse
import tempfile
import timeit
from pathlib import Path
from statistics import median

import torch

import work
from duel import Worker, report, seconds
from mpt.loading.hf import load_pretrained
from mpt.models.cost import batch_cost, machine_rate

BATCH, WIDTH, LONGEST, SIZE = 32, 576, 64, 3072


def torch_rate() -> float:
    """FLOP/s of a large float32 product in torch, its best."""
    a = torch.randn(SIZE, SIZE)
    return 2 * SIZE**3 / min(timeit.repeat(lambda: a @ a, number=1, repeat=4))


def necessary(batch: list, prompts: int, length: int) -> float:
    """FLOPs of a step; every row's label is one token."""
    backbone = load_pretrained(work.SMOLLM2).backbone
    texts = [len(inputs) + len(targets) - 1 for inputs, targets, *_ in batch]
    return batch_cost(backbone, prompts, length, texts, [1] * len(batch)).step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rows = []
    for length in (20, 100):
        with tempfile.TemporaryDirectory() as scratch:
            batches = work.texts(["tweets"], BATCH, rounds + 1, LONGEST)
            given = work.write(Path(scratch), batches, work.prompts(1, length, WIDTH))
            answers, rates = [], []
            with Worker("mpt_worker", model=work.SMOLLM2, gate=False, **given) as mpt:
                for number in range(rounds + 1):
                    rates.append((machine_rate(), torch_rate()))
                    answers.append(mpt.ask(number=number))
        flops = median(necessary(batch, 1, length) for batch in batches[1:])
        rows.append(
            {
                "prompt": length,
                "batch": BATCH,
                **work.describe(batches),
                "GFLOP": flops / 1e9,
                "step s": seconds(answers[1:]),
                "GFLOP/s": flops / seconds(answers[1:]) / 1e9,
                "JAX's product": median(rate for rate, _ in rates) / 1e9,
                "torch's product": median(rate for _, rate in rates) / 1e9,
                "share of JAX's": flops / seconds(answers[1:]) / median(rate for rate, _ in rates),
            }
        )
    report("limit", rows)


if __name__ == "__main__":
    main()
