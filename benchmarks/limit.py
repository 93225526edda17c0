"""How close a train step comes to the machine's own rate of matrix products.

    python benchmarks/limit.py [--rounds 7]

Necessary FLOPs of a step, with no padding counted: the layers' weights W meet every token of the
prompts and texts twice, forward and for the gradient of the activations, at 2 FLOPs each; attention
takes 2 products forward and 4 backward over each (query, visible key) pair; the head V·D meets each
label forward and backward.

    4·W·(J·P + Σ len) + 12·layers·heads·head_dim·pairs + 4·V·D·B
    pairs = Σ (len·(len + 1)/2 + len·P) + J·P·(P + 1)/2

Elementwise work, recomputation and padding are not counted: they are what keeps a step from the limit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
from flax import nnx

import work
from duel import Worker, report, seconds

BATCH, WIDTH, LONGEST = 32, 576, 64


def machine_rate(size: int = 3072, repeats: int = 3) -> float:
    """FLOP/s of a large float32 product, its best."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def necessary(batch: list, prompts: int, length: int) -> float:
    """FLOPs of a step."""
    backbone = work.load_pretrained(work.SMOLLM2).backbone
    spec = backbone.spec
    weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(backbone.layers)))
    lengths = [len(inputs) + len(targets) - 1 for inputs, targets, *_ in batch]
    pairs = sum(n * (n + 1) / 2 + n * length for n in lengths) + prompts * length * (length + 1) / 2
    return (
        4 * weights * (prompts * length + sum(lengths))
        + 12 * spec.layers * spec.heads * spec.head_dim * pairs
        + 4 * spec.vocab * spec.d_model * len(batch)
    )


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
                    rates.append(machine_rate())
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
                "machine GFLOP/s": median(rates) / 1e9,
                "share": flops / seconds(answers[1:]) / median(rates),
            }
        )
    report("limit", rows)


if __name__ == "__main__":
    main()
