"""How fast this machine is: what training makes of its speed is measured once, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache
from jax.typing import DTypeLike

from mpt.config.options import MeshConfig, ModelConfig, TrainConfig
from mpt.errors import tell
from mpt.models.cost import batch_cost, machine_rate
from mpt.plan.chips import Chip
from mpt.plan.job import Job
from mpt.plan.step import abstract_model, abstract_step
from mpt.sharding import use_mesh
from mpt.system.assets import cache_dir
from mpt.system.paths import replace_atomic
from mpt.training.step import train_step

MODEL = "smollm2-135m"  # whose training step is measured, in shapes alone
ROWS, LENGTH, TEXT = 8, 16, 32  # of that step: its rows, and the tokens of the prompt and of each text
MEASURED = 2  # counted up when ``measured`` changes: older constants are then measured again
READING = 2e8  # bytes of weights that are read, converted and hashed in a second


@dataclass(frozen=True)
class Machine:
    """What decides how long a run takes here.

    Attributes:
        rate: FLOP/s of a large matrix product.
        share: the part of it that a training step reaches.
        compiling: seconds to compile a training step.
    """

    rate: float
    share: float
    compiling: float

    @property
    def speed(self) -> float:
        """The FLOP/s of a training step."""
        return self.rate * self.share


def this_machine(dtype: DTypeLike) -> Machine:
    """What this machine does now, and what was measured once with this software on these devices."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    made_of = [
        MEASURED,
        device.device_kind,
        jax.device_count(),
        cores,
        jax.__version__,
        jnp.dtype(dtype).name,
    ]
    name = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    file = cache_dir() / "machine" / f"{name}.json"
    if file.exists():
        return replace(Machine(**json.loads(file.read_text())), rate=machine_rate(dtype))
    tell("measuring how fast this machine trains, once: about half a minute")
    machine = measured(dtype)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_atomic(file, json.dumps(asdict(machine)) + "\n")
    return machine


def measured(dtype: DTypeLike) -> Machine:
    """Compiles the training step of a small model, all of whose weights are 0, and takes two of them."""
    model = ModelConfig(MODEL, dtype=jnp.dtype(dtype).name)  # type: ignore[arg-type]
    train = TrainConfig(steps=1, batch_size=ROWS)
    job = Job(model, train, 1, LENGTH, 0, 0, False, TEXT, 1, MeshConfig(), Chip(0, 0, 0, 0))
    with use_mesh(MeshConfig()), _compiled_anew():
        abstract = abstract_model(job)
        spec, *shapes = abstract_step(job, abstract, jax.devices()[0])
        trainable, opt_state, *others = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        seconds, busy = [], []
        for _ in range(3):
            began, worked = time.perf_counter(), time.process_time()
            done = jax.block_until_ready(train_step(spec, trainable, opt_state, *others))
            seconds.append(time.perf_counter() - began)
            busy.append(time.process_time() - worked)  # a compiler has one thread, whatever else runs here
            trainable, opt_state = done.trainable, done.opt_state
    rate, flops = (
        machine_rate(dtype),
        batch_cost(abstract.backbone, 1, LENGTH, [TEXT] * ROWS, [1] * ROWS).step,
    )
    return Machine(rate, min(flops / min(seconds[1:]) / rate, 1.0), max(busy[0] - min(busy[1:]), 0.0))


@contextmanager
def _compiled_anew() -> Iterator[None]:
    """A context in which no program comes from JAX's cache on disk, where reading it takes no time."""
    before: bool = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # which makes JAX look at the option again
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
