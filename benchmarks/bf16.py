"""The time of a step with the frozen weights in float32 and in bfloat16, and what that does to its gradient.

    python benchmarks/bf16.py [--rounds 7]

SmolLM2-135M, one prompt; rows of 64 random tokens. The steps of a round are timed in turn, and the ratio is a
median of ratios of the same round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import work
from duel import report
from mpt.data.batches import collate_microbatches
from mpt.loading.hf import load_pretrained
from mpt.models.backbone import Backbone
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.losses import task_loss
from mpt.training.optim import LearningRates
from mpt.training.step import StepSpec, train_step
from mpt.types import Batch, Row

TEXT, BATCH, PROMPT = 64, 16, 32


def compiled_step(backbone: Backbone, batch: Batch) -> tuple[Callable[[], float], np.ndarray]:
    """A step that has run once and tells its seconds, and what its first run changed in the prompt.

    The optimizer is gradient descent at a rate of 1, so that the change is the gradient.
    """
    vectors = work.prompts(1, PROMPT, backbone.embedding.shape[-1])
    prompt = SoftPrompt(jnp.asarray(vectors))
    graph, trainable, frozen = nnx.split(Prompted(backbone, prompt), PromptParam, ...)
    optimizer = optax.sgd(1.0)
    step, rates = StepSpec(graph, task_loss, lambda _: optimizer), LearningRates.of({}, steps=1, warmup=0)
    state = [trainable, optimizer.init(trainable)]

    def timed() -> float:
        began = time.perf_counter()
        *state[:], figures, _, _ = train_step(step, *state, frozen, batch, {"task": 1.0}, rates)
        jax.block_until_ready(figures["loss"])
        return time.perf_counter() - began

    timed()
    (changed,) = jax.tree.leaves(state[0])
    return timed, np.asarray(changed - vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    rows = [Row(rng.integers(0, 40_000, TEXT).tolist(), [1], number=i) for i in range(BATCH)]
    batch = collate_microbatches(rows, [0] * BATCH, 1)
    steps, gradients = {}, {}
    for dtype in ("float32", "bfloat16"):
        backbone = load_pretrained(work.SMOLLM2, dtype=jnp.dtype(dtype)).backbone
        steps[dtype], gradients[dtype] = compiled_step(backbone, batch)
    times = [{dtype: step() for dtype, step in steps.items()} for _ in range(rounds)]
    exact, rounded = (gradients[dtype].ravel() for dtype in steps)
    cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
    table = [
        {
            "weights": dtype,
            "seconds": median(each[dtype] for each in times),
            "time": median(each[dtype] / each["float32"] for each in times),
            "cosine of the gradient": float(cosine) if dtype == "bfloat16" else 1.0,
        }
        for dtype in steps
    ]
    report("bf16", table)


if __name__ == "__main__":
    main()
