"""mpt's train step and class scoring, as `mpt.training.loop` and `mpt.inference.evaluate` run them."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from duel import answer
from mpt.data.batches import collate, collate_microbatches
from mpt.inference.evaluate import choice_probabilities
from mpt.loading.hf import load_pretrained
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.training.losses import distillation_loss, task_loss
from mpt.training.optim import GROUPS, Adam, LearningRates
from mpt.training.step import StepSpec, TrainState, train_step
from mpt.training.teacher_cache import TeacherCache
from mpt.types import Row


def prepare(
    model: str, folder: str, job: str = "train", remat: str = "elementwise", parts: int = 1, gate: bool = True
):
    batches = json.loads((Path(folder) / "batches.json").read_text())
    vectors = jnp.asarray(np.load(Path(folder) / "prompts.npy"))
    backbone = load_pretrained(model, remat=remat).backbone
    objective, weights = task_loss, {"task": 1.0}
    if job in ("distil", "distil cached"):
        start = MultitaskPrompt.start(vectors.mean(axis=0), len(vectors), 1, jax.random.key(0))
        prompted = Distilled(backbone, start, vectors)
        objective, weights = distillation_loss, {"task": 1.0, "kl": 0.9, "hidden": 0.9}
    else:
        prompted = Prompted(backbone, SoftPrompt(vectors))
    spec, state, frozen, rates = start(prompted, objective)

    def rows(number: int) -> list[Row]:
        first = number * len(batches[0])
        return [
            Row(inputs, targets, tuple(choices), number=first + place)
            for place, (inputs, targets, choices, _) in enumerate(batches[number])
        ]

    def tasks(number: int) -> list[int]:
        return [task for *_, task in batches[number]]

    def attach(batch):
        return batch

    if job == "distil cached":
        everything = [rows(number) for number in range(len(batches))]
        attach = TeacherCache(Path(folder) / "taught", backbone, vectors, everything).attach
        for number in range(len(batches)):
            attach(collate_microbatches(rows(number), tasks(number), parts, backbone.layout))

    def train(number: int) -> dict:
        if number == 0 and gate:
            batch = collate(rows(number), tasks(number), backbone.layout)
            np.save(
                Path(folder) / "mpt_gradient.npy",
                gradient(backbone, jax.tree.map(jnp.asarray, batch), vectors),
            )
        # The first request, which is not timed, compiles for the sizes of all batches.
        for each in (*range(1, len(batches)), 0) if number == 0 else (number,):
            batch = attach(collate_microbatches(rows(each), tasks(each), parts, backbone.layout))
            *state[:], figures, _, _ = train_step(spec, *state, frozen, batch, weights, rates)
        return {"loss": float(figures["task"])}

    def infer(number: int) -> dict:
        shares = choice_probabilities(prompted, rows(number), tasks(number), batch_size=len(batches[number]))
        return {"found": shares.argmax(axis=1).tolist()}

    return infer if job == "infer" else train


def start(prompted: Prompted, objective) -> tuple[StepSpec, list, nnx.State, LearningRates]:
    """What ``train_step`` takes: its spec, the parameters with Adam's state, the frozen part, the rates."""
    graph, trainable, frozen = nnx.split(prompted, PromptParam, ...)
    peak = {GROUPS[path[-1]]: 1e-3 for path, _ in nnx.to_flat_state(trainable)}
    rates = LearningRates.of(peak, steps=100, warmup=0.0)
    state = TrainState.initial(trainable, Adam()(rates))
    return StepSpec(graph, objective, Adam()), list(state), frozen, rates


def gradient(backbone, batch, vectors) -> np.ndarray:
    """Of each prompt's mean loss over its own rows."""

    @jax.jit
    def of_each(backbone, vectors):
        def loss(vectors):
            return task_loss(Prompted(backbone, SoftPrompt(vectors)), batch)["task"].pooled.sum

        rows = jnp.bincount(batch.prompt_index, length=len(vectors))
        return jax.grad(loss)(vectors) / rows[:, None, None]

    return np.asarray(of_each(backbone, vectors))


if __name__ == "__main__":
    answer(prepare)
