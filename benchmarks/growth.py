"""How a step's time grows with the prompt, the batch, the text, the tasks and the layers.

    python benchmarks/growth.py [--rounds 9]

SmolLM2-135M's shape with random weights and texts of random tokens, all of one length; each series
varies one of its sizes, and its steps are timed in turn. Writes results/growth.json and
results/growth.png. A straight line is fitted to each series, by relative errors, as those of timings are;
what counts is how far any point lies above it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from duel import HERE, report
from mpt.data.batches import collate_microbatches
from mpt.models.decoder import Decoder
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.rope import Rope
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.losses import task_loss
from mpt.training.optim import LearningRates
from mpt.training.step import StepSpec, train_step
from mpt.types import Row

USUAL = {"prompt": 32, "batch": 16, "text": 32, "tasks": 1, "layers": 6}
SERIES = {
    "prompt": (16, 64, 128, 192, 256),
    "batch": (8, 16, 32, 48, 64),
    "text": (16, 32, 64, 96, 128),
    "tasks": (1, 2, 4, 6, 8),
    "layers": (2, 4, 8, 12, 16),
}


def compiled_step(prompt: int, batch: int, text: int, tasks: int, layers: int) -> Callable[[], float]:
    """A step that has run once, and that tells its seconds."""
    spec = DecoderSpec(
        vocab=8192,
        d_model=576,
        layers=layers,
        heads=9,
        kv_heads=3,
        head_dim=64,
        d_ff=1536,
        ropes=(Rope(100_000.0),) * layers,
        norm_eps=1e-5,
        tied=True,
    )
    vectors = 0.1 * jax.random.normal(jax.random.key(0), (tasks, prompt, spec.d_model))
    model = Prompted(Decoder(spec, rngs=nnx.Rngs(0)), SoftPrompt(vectors))
    graph, trainable, frozen = nnx.split(model, PromptParam, ...)
    optimizer = optax.adam(1e-3)
    step, rates = StepSpec(graph, task_loss, lambda _: optimizer), LearningRates.of({}, steps=1, warmup=0)
    rng = np.random.default_rng(0)
    rows = [Row(rng.integers(0, spec.vocab, text).tolist(), [1]) for _ in range(batch)]
    arrays = collate_microbatches(rows, [i % tasks for i in range(batch)], 1)
    state = [trainable, optimizer.init(trainable)]

    def timed() -> float:
        began = time.perf_counter()
        *state[:], figures, _, _ = train_step(step, *state, frozen, arrays, {"task": 1.0}, rates)
        jnp.asarray(figures["loss"]).block_until_ready()
        return time.perf_counter() - began

    timed()
    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    figure, axes = plt.subplots(1, len(SERIES), figsize=(3.2 * len(SERIES), 3), layout="constrained")
    rows: list[dict[str, Any]] = []
    for axis, (name, sizes) in zip(axes, SERIES.items()):
        steps = [compiled_step(**USUAL | {name: size}) for size in sizes]
        times = list(map(median, zip(*([step() for step in steps] for _ in range(rounds)))))
        slope, start = np.polyfit(sizes, times, 1, w=1 / np.array(times))
        above = max(time / (start + slope * size) - 1 for size, time in zip(sizes, times))
        rows.append(
            {
                "varied": name,
                "sizes": " ".join(map(str, sizes)),
                "seconds": " ".join(f"{time:.3f}" for time in times),
                "most above the line": f"{above:.1%}",
            }
        )
        axis.plot(sizes, times, "o")
        axis.plot([0, sizes[-1]], [start, start + slope * sizes[-1]], "-", alpha=0.5)
        axis.set(xlabel=name, ylim=(0, None), xlim=(0, None))
    axes[0].set_ylabel("seconds per step")
    report("growth", rows)
    figure.savefig(HERE / "results" / "growth.png", dpi=100)


if __name__ == "__main__":
    main()
