"""Compiles one job's step and reads off what it takes.

    python -m mpt.plan.compiled < JOB.json > ESTIMATE.json

It is a process of its own: JAX must find its environment as the compiler needs it, a compiler that takes
too long can be ended, and whatever it does to its process stays there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
from dataclasses import asdict

import jax
import jax.numpy as jnp
from jax.experimental import mesh_utils, topologies
from jax.sharding import AxisType, Mesh

from mpt.config.yaml_file import from_plain
from mpt.errors import first_line
from mpt.models.cost import batch_cost, machine_rate
from mpt.plan.chips import Chip
from mpt.plan.collectives import collective_bytes
from mpt.plan.hlo import Program
from mpt.plan.job import Estimate, Job
from mpt.plan.step import abstract_model, abstract_step, kept_bytes, weight_bytes
from mpt.plan.traffic import cycles, traffic
from mpt.sharding import AXES

TOO_LARGE = re.compile(r"\(([\d.]+)G\) exceeds available HBM \(([\d.]+)G\)")


def estimate(job: Job) -> Estimate:
    """What a step of a job takes of each chip."""
    model = abstract_model(job)
    devices = topologies.get_topology_desc(job.topology, "tpu").devices if job.topology else jax.devices()
    with _mesh(job, devices):
        step = abstract_step(job, model, devices[0])
        lowered = step.lower()
        began = time.monotonic()
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            return _refused(error)
    memory, program = compiled.memory_analysis(), Program.of(compiled.as_text())
    kept = min(kept_bytes(job, model), memory.temp_size_in_bytes)
    fixed = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    flops, moved = _flops(job, model), traffic(program)
    sent = collective_bytes(compiled.as_text())
    ticks = cycles(program)
    busy = ticks / job.chip.clock if ticks and job.chip.clock else flops / job.chip.flops
    return Estimate(
        weights=weight_bytes(step.frozen),
        activations=kept,
        temporaries=memory.temp_size_in_bytes - kept,
        memory=fixed + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        flops=flops,
        traffic=moved,
        collectives=sent,
        seconds=max(busy, moved / job.chip.bandwidth) + sum(sent.values()) / job.chip.links,
        basis="cycles" if ticks else "roofline",
        compiling=time.monotonic() - began,
    )


def _mesh(job: Job, devices) -> contextlib.AbstractContextManager:
    shape = job.mesh.data, job.mesh.fsdp, job.mesh.tensor
    if math.prod(shape) == 1:
        return contextlib.nullcontext()
    arranged = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return jax.set_mesh(Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * len(AXES)))


def _flops(job: Job, model) -> float:
    """Each chip's share of the necessary ones."""
    # Behind a text stand all labels but one: of a target all but the last, of a class tree all but the root.
    text = job.inputs + (job.labels - 1 if model.backbone.layout == "decoder" else 0)
    texts, labels = [text] * job.rows, [job.labels] * job.rows
    cost = batch_cost(model.backbone, job.prompts, job.length, texts, labels, job.layer)
    flops = cost.distillation if job.distilled else cost.step
    return flops / (job.mesh.data * job.mesh.fsdp * job.mesh.tensor)


def _refused(error: Exception) -> Estimate:
    """What the compiler's error says: most often, how much memory it would need."""
    if found := TOO_LARGE.search(str(error)):
        needed, there = map(float, found.groups())
        return Estimate(memory=needed * 2**30, fault=f"more than {there:.1f} GiB")
    return Estimate(fault=first_line(error))


def here(dtype: str) -> tuple[int, Chip]:
    """The devices at hand, and what each can do, as measured: it takes some seconds."""
    devices, host = jax.devices(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    simulated = devices[0].platform == "cpu"  # then all devices are parts of one machine
    parts = len(devices) if simulated else 1
    memory = host / parts if simulated else devices[0].memory_stats()["bytes_limit"]
    bandwidth = _bandwidth() / parts
    return len(devices), Chip(float(memory), machine_rate(dtype) / parts, bandwidth, bandwidth)


def _bandwidth(size: int = 2**26, repeats: int = 3) -> float:
    """Bytes/s at which an array is read and written."""
    x, double = jnp.ones(size, jnp.float32), jax.jit(lambda x: 2 * x)
    double(x).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        double(x).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * x.nbytes / min(times)


def main() -> None:
    order = json.load(sys.stdin)
    if "here" in order:
        count, chip = here(order["here"])
        print(json.dumps({"count": count, "chip": asdict(chip)}))
    else:
        print(json.dumps(asdict(estimate(from_plain(Job, order, "job")))))


if __name__ == "__main__":
    main()
