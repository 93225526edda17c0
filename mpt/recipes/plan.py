"""Predicts a run's cost on chips that need not be at hand, and the fastest mesh."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from rich.console import Console

from mpt.comparison.config import AnyConfig, CompareConfig
from mpt.config.options import MeshConfig, ModelConfig, TrainConfig
from mpt.errors import UserError
from mpt.models.cost import parameter_count
from mpt.plan.chips import Chip, Topology
from mpt.plan.job import Estimate, Job
from mpt.plan.plans import Plan, StagePlan, mesh_name, plain, rows_of
from mpt.plan.reading import outline
from mpt.plan.search import Facts, best, dealt_out, fitted, meshes, ranked, search
from mpt.plan.stages import Planned, stages
from mpt.plan.tables import print_plan
from mpt.plan.worker import compiled, devices_here
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.prompted import Distilled
from mpt.rundir.directory import write_atomic
from mpt.system.progress import Progress
from mpt.training.stage import Stage


def plan(
    config: AnyConfig,
    topology: str = "",
    tries: int = 6,
    patience: float = 600.0,
    file: Path | None = None,
) -> Plan:
    """Compiles the training steps of a run for some chips, prints their cost, and returns it.

    Args:
        topology: kind and number of TPU chips, such as "v5e:4x4"; the devices at hand where left out.
        tries: how many meshes and batches are compiled in search of the best.
        patience: seconds after which a try is given up.
        file: where the figures go as JSON.

    Raises:
        UserError: there are no such chips, or the compiler is not installed.
    """
    model = config.model
    there = Topology.of(topology) if topology else None
    pretrained = outline(model)
    environment = there.environment() if there else {}
    devices, chip = (there.chips, there.chip) if there else devices_here(model.dtype)
    jobs = [(one, job_of(one, model, chip, topology)) for one in stages(config, pretrained)[1]]
    compilable = [(one, job) for one, job in jobs if job]
    if not compilable:
        raise UserError("plan: it supports only the training of prompts; this config trains something else")
    largest, job = max(compilable, key=lambda pair: pair[0].stage.flops)

    @functools.cache
    def ask(job: Job) -> Estimate:
        return compiled(job, environment, patience)

    facts = facts_of(largest.stage, model)
    candidates = ranked(job, facts, meshes(devices, facts.heads, facts.d_ff))
    if not candidates:
        raise UserError(
            f"{model.name}: its weights, {facts.weights / 2**30:.1f} GiB, are too large for {devices} of "
            f"{topology or 'the devices here'}: take more, --model.dtype bfloat16 or --model.weights int8"
        )
    with Progress(f"plan: {topology or 'here'}, {largest.name}", tries) as progress:
        tried = search(candidates, facts.weights, _with_progress(ask, progress), tries)
    suggested = best(tried)
    mesh = suggested.job.mesh if suggested else None
    steps = [stage_plan(one, job, mesh, ask) for one, job in compilable] if mesh else []
    size = parameter_count(pretrained.backbone)
    left_out = [one.name for one, job in jobs if not job]
    made = Plan(model.name, size, topology, devices, chip, largest.name, tried, steps, left_out)
    print_plan(made, Console(highlight=False))
    if file:
        write_atomic(file, json.dumps(plain(made), indent=1) + "\n")
    return made


def _with_progress(ask: Callable[[Job], Estimate], progress: Progress) -> Callable[[Job], Estimate]:
    def asked(job: Job) -> Estimate:
        estimate = ask(job)
        progress.step(f"{mesh_name(job.mesh)}, {rows_of(job.train)} rows")
        return estimate

    return asked


def job_of(planned: Planned, model: ModelConfig, chip: Chip, topology: str) -> Job | None:
    """A stage's step on one device, its rows at their longest; None where it trains more than vectors."""
    stage = planned.stage
    prompt = stage.model.prompt
    if not isinstance(prompt, SoftPrompt | MultitaskPrompt) or stage.weight_rate is not None:
        return None
    factored = isinstance(prompt, MultitaskPrompt)
    prompts, length = prompt.extent(stage.train.batch_size)
    train = {field.name: getattr(stage.train, field.name) for field in fields(TrainConfig)}
    nodes = [one.nodes for one in stage.lengths if one.nodes is not None]
    return Job(
        model,
        TrainConfig(**train),
        prompts,
        length,
        max(prompt.u.shape[2], 1) if factored else 0,
        prompt.shared.shape[0] if factored else 0,
        isinstance(stage.model, Distilled),
        max(one.longest for one in stage.lengths),
        math.ceil(max(one.labels for one in stage.lengths)),
        MeshConfig(1),
        chip,
        topology,
        math.ceil(max(nodes)) if nodes and stage.train.objective == "classes" else -1,
        prompt.layer,
    )


def facts_of(stage: Stage, model: ModelConfig) -> Facts:
    """What a guess at a mesh must know of a stage's model."""
    backbone: Any = stage.model.backbone
    spec, itemsize = backbone.spec, jnp.dtype(model.dtype).itemsize
    stacks = spec.stacks.values()  # `tensor` has to divide the heads and units of all
    units = [(stack.d_ff, getattr(stack, "dense_d_ff", 0)) for stack in stacks]
    stored = 1 if model.weights == "int8" else itemsize
    return Facts(
        parameter_count(backbone) * stored,
        stage.flops / stage.train.batch_size,
        spec.layers + getattr(spec, "decoder_layers", 0),
        spec.d_model,
        itemsize,
        math.gcd(*(stack.heads for stack in stacks)),
        math.gcd(*itertools.chain(*units)),
    )


def stage_plan(planned: Planned, job: Job, mesh: MeshConfig, ask: Callable[[Job], Estimate]) -> StagePlan:
    """A stage's step on a mesh, and the rows of all its steps."""
    steps = planned.stage.steps
    rows = None if steps is None else planned.runs * steps * planned.stage.train.batch_size
    return StagePlan(planned.name, rows, fitted(dealt_out(job, mesh), ask))


def with_model(config: AnyConfig, name: str) -> AnyConfig:
    """The config with another backbone."""
    if isinstance(config, CompareConfig):
        return replace(config, pretrain=with_model(config.pretrain, name))  # type: ignore[arg-type]
    return replace(config, model=replace(config.model, name=name))
