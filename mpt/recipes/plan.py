"""What a run would take on chips that need not be here, and on which mesh it is fastest."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from rich.console import Console

from mpt.config.options import AdaptConfig, CompareConfig, MeshConfig, PretrainConfig, TrainConfig
from mpt.errors import UserError
from mpt.models.cost import weights
from mpt.plan.chips import Chip, Topology
from mpt.plan.job import Estimate, Job
from mpt.plan.plans import Plan, StagePlan, mesh_name, plain, rows_of
from mpt.plan.search import Facts, best, dealt_out, fitted, meshes, ranked, search
from mpt.plan.stages import Planned, Stage, stages
from mpt.plan.tables import print_plan
from mpt.plan.worker import compiled, devices_here
from mpt.prompts import MultitaskPrompt
from mpt.rundir.directory import write_whole
from mpt.system.progress import Progress


def plan(
    config: PretrainConfig | AdaptConfig | CompareConfig,
    topology: str = "",
    tries: int = 6,
    patience: float = 600.0,
    file: Path | None = None,
) -> Plan:
    """Compiles the train steps of a run for some chips, prints what they take, and returns it.

    Args:
        topology: kind and number of TPU chips, such as "v5e:4x4"; the devices at hand where left out.
        tries: how many meshes and batches are compiled in search of the best.
        patience: seconds after which a try is given up.
        file: where the figures go as JSON.

    Raises:
        UserError: there are no such chips, or the compiler is not installed.
    """
    settings = config.pretrain.model if isinstance(config, CompareConfig) else config.model
    there = Topology.of(topology) if topology else None
    model = Planned(settings)
    _, planned = stages(config, model)
    environment = there.environment() if there else {}
    devices, chip = (there.chips, there.chip) if there else devices_here(settings.dtype)
    largest = max(planned, key=lambda stage: stage.flops(model))

    @functools.cache
    def ask(job: Job) -> Estimate:
        return compiled(job, environment, patience)

    job = job_of(largest, model, chip, topology)
    facts = facts_of(largest, model)
    jobs = ranked(job, facts, meshes(devices, facts.heads, facts.d_ff))
    if not jobs:
        raise UserError(
            f"{settings.name}: its weights, {facts.weights / 2**30:.1f} GiB, are too large for {devices} of "
            f"{topology or 'the devices here'}: take more, --model.dtype bfloat16 or --model.weights int8"
        )
    with Progress(f"plan: {topology or 'here'}, {largest.name}", tries) as progress:
        tried = search(jobs, facts.weights, _told(ask, progress), tries)
    suggested = best(tried)
    mesh = suggested.job.mesh if suggested else None
    steps = [stage_plan(stage, model, chip, topology, mesh, ask) for stage in planned] if mesh else []
    found = Plan(settings.name, weights(model.backbone), topology, devices, chip, largest.name, tried, steps)
    print_plan(found, Console(highlight=False))
    if file:
        write_whole(file, json.dumps(plain(found), indent=1) + "\n")
    return found


def _told(ask: Callable[[Job], Estimate], progress: Progress) -> Callable[[Job], Estimate]:
    def told(job: Job) -> Estimate:
        found = ask(job)
        progress.step(f"{mesh_name(job.mesh)}, {rows_of(job.train)} rows")
        return found

    return told


def job_of(stage: Stage, model: Planned, chip: Chip, topology: str) -> Job:
    """A stage's step, its rows as long as they may be; its mesh is one of one device."""
    prompt = stage.prompt
    factored = isinstance(prompt, MultitaskPrompt)
    own = {field.name: getattr(stage.config, field.name) for field in fields(TrainConfig)}
    return Job(
        model.config,
        TrainConfig(**own),
        stage.prompts,
        stage.length,
        max(prompt.u.shape[2], 1) if factored else 0,
        prompt.shared.shape[0] if factored else 0,
        stage.distilled,
        max(read.longest for read in stage.reads),
        math.ceil(max(read.labels for read in stage.reads)),
        MeshConfig(1),
        chip,
        topology,
    )


def facts_of(stage: Stage, model: Planned) -> Facts:
    backbone: Any = model.backbone
    spec, itemsize = backbone.spec, jnp.dtype(model.config.dtype).itemsize
    stored = 1 if model.config.weights == "int8" else itemsize
    return Facts(
        weights(model.backbone) * stored,
        stage.flops(model) / stage.config.batch_size,
        spec.layers + getattr(spec, "decoder_layers", 0),
        spec.d_model,
        itemsize,
        spec.heads,
        spec.d_ff,
    )


def stage_plan(
    stage: Stage, model: Planned, chip: Chip, topology: str, mesh: MeshConfig, ask: Callable[[Job], Estimate]
) -> StagePlan:
    """A stage's step on a mesh, and the rows of all its steps."""
    job = dealt_out(job_of(stage, model, chip, topology), mesh)
    rows = None if stage.steps is None else stage.runs * stage.steps * stage.config.batch_size
    return StagePlan(stage.name, rows, fitted(job, ask))
