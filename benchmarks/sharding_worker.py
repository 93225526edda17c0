"""One model family on every mesh of eight devices, beside one device; prints JSON. See sharding.py.

With a second argument, whatever it is, every mesh also trains for some steps; else two of them do, and the
last one is left out.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mpt.config.options import MeshConfig, TrainConfig
from mpt.data.mixture import training_batches
from mpt.models.decoder import Decoder
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.t5 import T5
from mpt.models.encoder_decoder.t5_spec import T5Spec
from mpt.models.encoder_decoder.t5gemma import T5Gemma
from mpt.models.encoder_decoder.t5gemma_spec import T5GemmaSpec
from mpt.models.layers import ClampedSwiGLU
from mpt.models.rope import Rope
from mpt.plan.collectives import collective_bytes
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.sharding import (
    global_batch,
    local_shards,
    replicated_over_mesh,
    shardings_of,
    use_mesh,
    weight_shardings,
)
from mpt.training.losses import task_loss
from mpt.training.optim import Adam, LearningRates
from mpt.training.step import StepSpec, train_step
from mpt.types import Row

TASKS, PROMPT, WIDTH, VOCAB, STEPS = 2, 4, 32, 96, 20
TRAIN = TrainConfig(steps=STEPS, batch_size=16, microbatches=2)
MESHES = [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2), (4, 1, 2)]
TRAINED = [(8, 1, 1), (2, 2, 2)]

_SIZES = {"vocab": VOCAB, "d_model": WIDTH, "layers": 2, "head_dim": 4, "d_ff": 64, "norm_eps": 1e-6}
_T5 = _SIZES | {"decoder_layers": 2, "heads": 8, "buckets": 8, "max_distance": 12, "logit_scale": 1.0}
_DECODER = _SIZES | {"heads": 8, "kv_heads": 2, "ropes": (Rope(theta=100.0),) * 2, "tied": True}
_GEMMA = {"norm_offset": 1.0, "qk_norm": "head", "post_norms": True, "attention_cap": 3.0, "logit_cap": 2.0}
_GPT_OSS = {
    "activation": ClampedSwiGLU(1.7, 0.8),
    "biases": ("q", "k", "v", "out", "router", "gate", "up", "down"),
}
_GPT2 = {"positions": 64, "norm": "layer", "gated": False, "activation": "gelu_new"}


def _qwen3_5() -> DecoderSpec:
    """Heads of several numbers and widths; the delta rule's keys are fewer than the devices."""
    sizes = {"layers": 4, "ropes": (Rope(theta=100.0),) * 4, "norm_eps": 0.05}  # else norms show rounding
    attention = DecoderSpec(**_DECODER | sizes, out_gate=True)
    delta = replace(attention, heads=16, kv_heads=2, head_dim=6, ropes=(), taps=3, out_gate=False)
    kinds = ["delta", "attention"] * 2
    return attention.of_several_kinds(kinds, {"attention": attention, "delta": delta})


def _gemma4() -> DecoderSpec:
    """Two kinds of heads, layers that read others' keys and values, and inputs of each layer's own."""
    sizes = {"layers": 4, "ropes": (Rope(theta=100.0),) * 4, "head_dim": 6, "kv_heads": 1, "norm_eps": 0.05}
    full = DecoderSpec(
        **_DECODER | sizes,
        **{"qk_norm": "head", "value_norm": True, "post_norms": True, "attention_scale": 0.3},
        **{"per_layer": 4, "per_layer_vocab": VOCAB, "layer_scale": True},
    )
    sliding = replace(full, head_dim=4, kv_heads=2, windows=(3,) * 4)
    specs = {"sliding": sliding, "full": replace(full, keys_as_values=True)}
    specs["full_shared"] = replace(full, shares="full", d_ff=2 * full.d_ff)
    return full.of_several_kinds(["sliding", "full", "sliding", "full_shared"], specs)


def _t5gemma(merged: bool) -> T5GemmaSpec:
    """Fewer key and value heads than devices; the encoder's windows are of both sides."""
    norms = {"norm_offset": 1.0, "post_norms": True, "norm_eps": 0.3}  # else norms show rounding
    stack = DecoderSpec(**_DECODER | norms, attention_cap=3.0)
    return T5GemmaSpec(
        encoder=replace(stack, windows=(2, 2**30), ahead=(2, 2**30)),
        decoder=replace(stack, windows=(3, 2**30), crosses=0 if merged else WIDTH, logit_cap=2.0),
        own_table=not merged,
        merged=merged,
        image_end=5 if merged else None,
        start_token=1,
    )


SPECS = {
    "t5gemma": _t5gemma(merged=False),
    "t5gemma2": _t5gemma(merged=True),
    "gemma4": _gemma4(),
    "qwen3_5": _qwen3_5(),
    "t5": T5Spec(**_T5, activation="gelu_new", gated=True, bias_everywhere=False, tied=False),
    "umt5": T5Spec(**_T5, activation="relu", gated=False, bias_everywhere=True, tied=True),
    "llama": DecoderSpec(**_DECODER | {"heads": 24, "kv_heads": 3}),
    "gemma2": DecoderSpec(**_DECODER, **_GEMMA, windows=(3, 2**30)),
    "qwen3_moe": DecoderSpec(
        **_DECODER, qk_norm="head", experts=5, experts_per_token=2, experts_weighed=True, logit_scale=0.5
    ),
    "gpt_oss": DecoderSpec(
        **_DECODER,
        **_GPT_OSS,
        experts=5,
        experts_per_token=2,
        experts_weighed=True,
        windows=(3, 2**30),
        sinks=True,
    ),
    "gpt2": DecoderSpec(
        **_DECODER | {"kv_heads": 8, "ropes": ()}, **_GPT2, biases=("q", "k", "v", "out", "up", "down")
    ),
}


def rows() -> list[list[Row]]:
    """Rows of each task, of different lengths and numbers of targets: no two shards weigh the same."""
    rng = np.random.default_rng(0)

    def row() -> Row:
        inputs, targets = (rng.integers(3, VOCAB, rng.integers(1, most)).tolist() for most in (14, 4))
        return Row(inputs, targets)

    return [[row() for _ in range(64)] for _ in range(TASKS)]


MODULES = {DecoderSpec: Decoder, T5Spec: T5, T5GemmaSpec: T5Gemma}
Spec = DecoderSpec | T5Spec | T5GemmaSpec


def start(spec: Spec) -> Prompted:
    """A random model, its weights where the mesh in use has them."""
    graph, weights = nnx.split(MODULES[type(spec)](spec, rngs=nnx.Rngs(0)))
    shardings = weight_shardings()

    def place(leaf: nnx.Variable) -> nnx.Variable:
        matrix = leaf.ndim > 1 + ("layer" in leaf.axes)
        value = 10 * leaf[...] if matrix else leaf[...]  # so large that every part has a say
        return leaf.replace(jax.device_put(value, shardings and shardings(leaf.axes, leaf.shape)))

    weights = jax.tree.map(place, weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    vectors = 0.1 * np.random.default_rng(1).normal(size=(TASKS, PROMPT, WIDTH))
    return Prompted(nnx.merge(graph, weights), SoftPrompt(jnp.asarray(vectors, jnp.float32)))


def descent(rates: LearningRates) -> optax.GradientTransformation:
    """Adam, and in front of its state the gradient."""
    return optax.chain(optax.trace(decay=0.0), Adam()(rates))


def measure(spec: Spec, steps: int) -> dict:
    """A step's loss, gradient and collectives on the mesh in use; and the prompt after ``steps``."""
    model = start(spec)
    batches = training_batches(rows(), TRAIN, 0, model.backbone.layout, local_shards())
    graph, params, frozen = nnx.split(model, PromptParam, ...)
    rates = LearningRates.of({"vectors": 0.01}, steps=STEPS, warmup=0.1)
    params, state, frozen = replicated_over_mesh((params, descent(rates).init(params), frozen))
    kind = StepSpec(graph, task_loss, descent, TASKS, shardings_of((params, state)))
    rest = {"task": np.float32(1)}, rates
    two = [global_batch(batches[i]) for i in range(min(steps, 2))]  # in turn: each shape is compiled
    programs = [train_step.lower(kind, params, state, frozen, batch, *rest).compile() for batch in two]
    found = {"bytes": collective_bytes(programs[0].as_text())}
    for i in range(steps):
        done = jax.block_until_ready(programs[i % 2](params, state, frozen, two[i % 2], *rest))
        params, state, figures = done.trainable, done.opt_state, done.losses
        if i == 0:
            found |= {"loss": float(figures["loss"]), "gradient": np.asarray(jax.tree.leaves(state[0])[0])}
    return found | {"prompt": np.asarray(jax.tree.leaves(params)[0])}


def compared(found: dict, one: dict, trained: bool) -> dict:
    """Differences to one device: relative ones, a gradient's and a prompt's to the largest number in it."""

    def differ(name: str) -> float:
        return float(np.abs(found[name] - one[name]).max() / np.abs(one[name]).max())

    names = ("loss", "gradient", "prompt") if trained else ("loss", "gradient")
    return {name: differ(name) for name in names} | {"bytes": found["bytes"]}


if __name__ == "__main__":
    spec = SPECS[sys.argv[1]]
    one = measure(spec, STEPS)
    table = {}
    every = len(sys.argv) > 2
    for sizes in MESHES if every else MESHES[:-1]:
        with use_mesh(MeshConfig(*sizes)):
            trained = every or sizes in TRAINED
            found = compared(measure(spec, STEPS if trained else 1), one, trained)
            table[" × ".join(map(str, sizes))] = found
    print(json.dumps({"gradient bytes": one["gradient"].nbytes, "loss": one["loss"], "meshes": table}))
