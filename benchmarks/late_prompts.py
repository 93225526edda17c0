"""A step's time with a prompt that enters before a later layer, with and without kept states.

    python benchmarks/late_prompts.py [--rounds 7]

SmolLM2-135M, which has 30 layers; rows of 64 random tokens. The steps of a round are timed in turn, and
each figure is a median of ratios to the step at layer 0 of the same round.
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
from mpt.models.cost import batch_cost
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.kept_states import KeptStates
from mpt.training.losses import task_loss
from mpt.training.optim import LearningRates
from mpt.training.step import StepSpec, train_step
from mpt.types import Batch, Row

LAYERS, TEXT, BATCH, PROMPT = (0, 8, 15, 22), 64, 16, 32


def compiled_step(backbone: Backbone, layer: int, batch: Batch) -> Callable[[], float]:
    """A step that has run once, and that tells its seconds."""
    vectors = jnp.asarray(work.prompts(1, PROMPT, backbone.embedding.shape[-1]))
    graph, trainable, frozen = nnx.split(Prompted(backbone, SoftPrompt(vectors, layer)), PromptParam, ...)
    optimizer = optax.adam(1e-3)
    step, rates = StepSpec(graph, task_loss, lambda _: optimizer), LearningRates.of({}, steps=1, warmup=0)
    state = [trainable, optimizer.init(trainable)]

    def timed() -> float:
        began = time.perf_counter()
        *state[:], figures, _, _ = train_step(step, *state, frozen, batch, {"task": 1.0}, rates)
        jax.block_until_ready(figures["loss"])
        return time.perf_counter() - began

    timed()
    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    backbone = load_pretrained(work.SMOLLM2).backbone
    rng = np.random.default_rng(0)
    rows = [Row(rng.integers(0, 40_000, TEXT).tolist(), [1], number=i) for i in range(BATCH)]
    batch = collate_microbatches(rows, [0] * BATCH, 1)
    steps = {}
    for layer in LAYERS:
        steps[layer, "runs"] = compiled_step(backbone, layer, batch)
        if layer:
            kept = KeptStates(backbone, [rows], layer, PROMPT).attach(batch)
            steps[layer, "kept"] = compiled_step(backbone, layer, kept)
    times = [{key: step() for key, step in steps.items()} for _ in range(rounds)]

    def ratio(*key: int | str) -> float:
        return median(found[key] / found[0, "runs"] for found in times)

    costs = {layer: batch_cost(backbone, 1, PROMPT, [TEXT] * BATCH, [1] * BATCH, layer) for layer in LAYERS}
    table = []
    for layer in LAYERS:
        cost, whole = costs[layer], costs[0].step
        found = {"layer": layer, "seconds": median(each[layer, "runs"] for each in times)}
        found |= {"time": ratio(layer, "runs"), "FLOPs": cost.step / whole}
        found |= {"time, kept": ratio(layer, "kept" if layer else "runs")}
        table.append(found | {"FLOPs, kept": (cost.step - cost.below) / whole})
    report("late_prompts", table)


if __name__ == "__main__":
    main()
