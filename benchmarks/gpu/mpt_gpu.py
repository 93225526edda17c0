"""mpt on one device: training steps as `mpt.training.loop` runs them, class scores, texts, a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import work
from duel import answer, typical_seconds
from given import Rows
from mpt.data.batches import collate, collate_microbatches
from mpt.inference.evaluate import choice_probabilities
from mpt.inference.generate import generate_after_prompt
from mpt.loading.config_file import read_config
from mpt.loading.converted import converted
from mpt.loading.hf import open_folder, read_backbone
from mpt.loading.located import locate
from mpt.models.cost import batch_cost, machine_rate
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.losses import task_loss
from mpt.training.step import train_step
from mpt.types import Row
from mpt_worker import start
from operations import longest_operations
from weights import RandomTensors

ADAM_SHARE = 0.1  # of a gradient, that the first step puts into Adam's mean


def prepare(model: str, folder: str, dtype: str, rows: str):
    if dtype == "float32":
        jax.config.update("jax_default_matmul_precision", "highest")  # not rounded, as a GPU would by default
    if folder:
        shapes = json.loads(Path(folder, "shapes.json").read_text())
        config, tensors = read_config(Path(folder)), RandomTensors(shapes, Path(folder))
    else:
        config, _, tensors = open_folder(converted(locate(model)))
    backbone = read_backbone(config, tensors, Path(folder or model), jnp.dtype(dtype))
    measures = Measures(backbone, Rows.read(Path(rows)))
    return measures.answer


class Measures:
    """What is measured of one backbone, by the names that requests give."""

    def __init__(self, backbone: Any, rows: Rows):
        self.backbone, self.rows = backbone, rows

    def answer(self, job: str, kernel: str = "plain", **request: Any) -> dict[str, Any]:
        self.backbone.kernel = kernel
        try:
            return getattr(self, job)(**request)
        except Exception as error:  # out of memory, above all: the next case may fit
            return {"error": f"{type(error).__name__}: {error}"[:500]}

    def peak(self, size: int) -> dict[str, Any]:
        return {
            "device": jax.devices()[0].device_kind,
            "TFLOP/s": machine_rate(jnp.bfloat16, size, repeats=10) / 1e12,
            "jax": jax.__version__,
        }

    def step(self, batch: list, prompt: int, enough: float, evidence: str) -> dict[str, Any]:
        compiled, state, run = self._step(batch, prompt)
        first = run()
        mean = optax.tree_utils.tree_get(state[1], "mu")
        (mean,) = jax.tree.leaves(mean)
        np.save(evidence, np.asarray(mean[0], np.float32) / ADAM_SHARE)
        seconds, memory = typical_seconds(run, enough), compiled.memory_analysis()
        texts, labels = ([len(row[part]) for row in batch] for part in (0, 1))
        taken = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
        return {
            "rows/s": len(batch) / seconds,
            "step s": seconds,
            "GB": (taken - memory.alias_size_in_bytes) / 1e9,
            "TFLOP": batch_cost(self.backbone, 1, prompt, texts, labels).step / 1e12,
            "loss": first,
            "GB at most so far": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e9,
        }

    def _step(self, batch: list, prompt: int):
        """The compiled step, the state that it replaces, and what runs it once and returns the loss."""
        backbone = self.backbone
        prompted = Prompted(backbone, SoftPrompt(jnp.asarray(work.prompts(1, prompt, backbone.spec.d_model))))
        spec, state, frozen, rates = start(prompted, task_loss)
        rows, share = [Row(*row[:2]) for row in batch], {"task": np.float32(1)}

        def collated():
            return collate_microbatches(rows, [0] * len(rows), 1, backbone.layout)

        compiled = train_step.lower(spec, *state, frozen, collated(), share, rates).compile()

        def run() -> float:
            *state[:], losses, _, _ = compiled(*state, frozen, collated(), share, rates)
            return float(losses["task"])

        return compiled, state, run

    def classify(self, prompt: int, count: int, batch_size: int, evidence: str) -> dict[str, Any]:
        inputs, choices = self.rows.inputs[:count], self.rows.choices
        rows = [Row(ids, choices[0], tuple(map(tuple, choices))) for ids in inputs]
        prompted = self._prompted(prompt)

        def run() -> np.ndarray:
            return choice_probabilities(prompted, rows, 0, batch_size)

        np.save(evidence, run().argmax(axis=1))
        return {"rows/s": len(rows) / typical_seconds(run, 0, least=1)}

    def generate(self, batch: list, prompt: int, count: int, evidence: str) -> dict[str, Any]:
        rows, prompted = [Row(row[0], [0]) for row in batch], self._prompted(prompt)

        def run() -> list[list[int]]:
            made = collate(rows, [0] * len(rows), self.backbone.layout)
            return generate_after_prompt(prompted, made, max_new_tokens=count, stop=())

        np.save(evidence, np.array(run()))
        return {"rows/s": len(rows) / typical_seconds(run, 0, least=2)}

    def _prompted(self, prompt: int) -> Prompted:
        vectors = jnp.asarray(work.prompts(1, prompt, self.backbone.spec.d_model))
        return Prompted(self.backbone, SoftPrompt(vectors))

    def profile(self, batch: list, prompt: int, trace: str) -> dict[str, Any]:
        _, _, run = self._step(batch, prompt)
        run()
        with jax.profiler.trace(trace):
            for _ in range(3):
                run()
        return {"operations": longest_operations(Path(trace), 15)}


if __name__ == "__main__":
    answer(prepare)
