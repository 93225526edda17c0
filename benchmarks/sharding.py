"""Every mesh of eight devices beside one device: loss, gradient, trained prompt, and what crosses the network.

    python benchmarks/sharding.py

The devices are simulated on the CPU, the models tiny and random: it is equality that is measured, and
bytes, not time. Writes results/sharding.json and prints its tables.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

DEVICES = 8
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("NPROC", "16")  # else so many devices on few cores can wait for each other too long

import jax
import numpy as np
import optax
from flax import nnx

from mpt.collectives import collective_bytes
from mpt.config import MeshConfig, TrainConfig
from mpt.data.mixture import training_batches
from mpt.data.tokenise import Row
from mpt.losses import task_loss
from mpt.models.decoder import Decoder, DecoderSpec
from mpt.models.prompted import Prompted
from mpt.models.rope import Rope
from mpt.models.t5 import T5, T5Spec
from mpt.optim import adam
from mpt.prompts import PromptParam, SoftPrompt
from mpt.sharding import dealt, own_shards, placed, shardings_of, use_mesh, weight_shardings
from mpt.train import make_step

TASKS, PROMPT, STEPS, RATE = 2, 4, 20, 0.01
MESHES = [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2), (4, 1, 2), (1, 2, 4), (2, 4, 1)]
TRAINED = [(8, 1, 1), (1, 1, 8), (2, 2, 2)]  # the meshes that also train for some steps

_SIZES = {"vocab": 96, "d_model": 32, "layers": 2, "head_dim": 4, "d_ff": 64, "norm_eps": 1e-6}
_ROPE = (Rope(theta=100.0),) * 2
FAMILIES = {
    "T5": (T5, T5Spec(**_SIZES, decoder_layers=2, heads=8, activation="gelu_new", gated=True, buckets=8,
        max_distance=12, bias_everywhere=False, logit_scale=1.0, tied=False)),
    "UMT5": (T5, T5Spec(**_SIZES, decoder_layers=2, heads=8, activation="relu", gated=False, buckets=8,
        max_distance=12, bias_everywhere=True, logit_scale=1.0, tied=True)),
    "Llama, 3 KV heads": (Decoder, DecoderSpec(**_SIZES, heads=24, kv_heads=3, ropes=_ROPE, tied=True, activation="silu")),
    "Gemma 2, 4 KV heads": (Decoder, DecoderSpec(**_SIZES, heads=8, kv_heads=4, ropes=_ROPE, tied=True,
        windows=(3, 2**30), norm_offset=1.0, qk_norm=True, post_norms=True, attention_cap=3.0, logit_cap=2.0)),
    "GPT-2": (Decoder, DecoderSpec(**_SIZES, heads=8, kv_heads=8, ropes=(), tied=True, positions=64,
        norm="layer", gated=False, activation="gelu_new", biases=("q", "k", "v", "out", "up", "down"))),
}


def random_rows(seed: int = 0, count: int = 64) -> list[list[Row]]:
    """Rows of each task, of different lengths and numbers of targets: no two shards weigh the same."""
    rng = np.random.default_rng(seed)

    def row() -> Row:
        inputs, targets = (rng.integers(3, 96, rng.integers(1, most)).tolist() for most in (14, 4))
        return Row(inputs, targets)

    return [[row() for _ in range(count)] for _ in range(TASKS)]


def backbone_of(family: str):
    """A random backbone, its weights where the mesh in use has them."""
    module, spec = FAMILIES[family]
    graph, weights = nnx.split(module(spec, rngs=nnx.Rngs(0)))
    if shardings := weight_shardings():
        flat = nnx.to_flat_state(weights)
        put = [(path, leaf.replace(jax.device_put(leaf[...], shardings(leaf.axes, leaf.shape)))) for path, leaf in flat]
        weights = nnx.from_flat_state(put)
    return nnx.merge(graph, weights)


def measure(family: str, mesh: tuple[int, ...] | None) -> dict:
    """Loss, gradient and collectives of a step on a mesh, or on one device; and the prompt after some."""
    config = MeshConfig(*mesh) if mesh else MeshConfig(1)
    with use_mesh(config) if mesh else jax.default_device(jax.devices()[0]):
        backbone = backbone_of(family)
        start = 0.1 * np.random.default_rng(1).normal(size=(TASKS, PROMPT, 32)).astype(np.float32)
        model = Prompted(backbone, SoftPrompt(jax.numpy.asarray(start)))
        settings = TrainConfig(steps=STEPS, batch_size=16, parts=2)
        batches = training_batches(random_rows(), settings, 0, backbone.layout, own_shards())
        graph, params, frozen = nnx.split(model, PromptParam, ...)

        def stepper(optimizer):
            state = placed((params, optimizer.init(params)))
            return make_step(graph, optimizer, task_loss, {"task": 1.0}, shardings_of(state)), state

        keep = optax.trace(decay=0.0)  # its state is the gradient
        step, state = stepper(keep)
        frozen = placed(frozen)
        state = jax.tree.map(jax.numpy.copy, state)
        compiled = step.lower(*state, frozen, dealt(batches[0])).compile()
        _, state, figures = compiled(*state, frozen, dealt(batches[0]))
        (gradient,) = jax.tree.leaves(state)
        found = {
            "loss": float(figures["loss"]),
            "gradient": np.asarray(gradient),
            "bytes": collective_bytes(compiled.as_text()),
            "text": compiled.as_text(),
        }
        if mesh is None or mesh in TRAINED:
            step, state = stepper(adam({"vectors": RATE}, steps=STEPS, warmup=0.1))
            state = jax.tree.map(jax.numpy.copy, state)
            for i in range(STEPS):
                *state, figures = step(*state, frozen, dealt(batches[i]))
                jax.block_until_ready(state)
            found["prompt"] = np.asarray(jax.tree.leaves(state[0])[0])
        return found
