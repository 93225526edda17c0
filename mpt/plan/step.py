"""A train step of shapes alone: the real one, with nothing in memory behind its arrays."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from mpt.data.batches import Batch, Shards, collate_parts
from mpt.data.tokenise import Row
from mpt.losses import distillation_loss, task_loss
from mpt.models.prompted import Distilled, Prompted
from mpt.models.shapes import abstract_backbone
from mpt.plan.job import Job
from mpt.prompts import MultitaskPrompt, Prompt, PromptParam, SoftPrompt
from mpt.sharding import ROWS, mesh_in_use, weight_shardings
from mpt.train import make_step, optimizer_of


def abstract_step(job: Job, device: jax.Device) -> tuple[Any, tuple[Any, ...]]:
    """A job's train step on the mesh in use, or on ``device``, and the shapes of its arguments.

    The third of these is the frozen weights. All rows are as long as the job says, no token is spared.
    """
    mesh = mesh_in_use()
    whole = SingleDeviceSharding(device) if mesh is None else NamedSharding(mesh, PartitionSpec())
    model = _model(job)
    graph, params, frozen = nnx.split(model, PromptParam, ...)
    optimizer = optimizer_of(job.train)
    state = _placed((params, jax.eval_shape(optimizer.init, params)), whole)
    objective = distillation_loss if job.distilled else task_loss
    weights = dict.fromkeys(("task", "kl", "hidden") if job.distilled else ("task",), 1.0)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = make_step(graph, optimizer, objective, weights, shardings)
    dealt = whole if mesh is None else NamedSharding(mesh, PartitionSpec(None, ROWS))
    batch = _placed(_batch(job, model.backbone.layout), dealt)
    return step, (*state, _weights(frozen, whole), batch)


def _model(job: Job) -> Prompted:
    backbone = abstract_backbone(**vars(job.model))
    size = job.prompts, job.length, backbone.embedding.shape[1]

    def build(backbone) -> Prompted:
        prompt = prompt_of(size, job.rank, job.shared)
        return Distilled(backbone, prompt, jnp.zeros(size)) if job.distilled else Prompted(backbone, prompt)

    return nnx.eval_shape(build, backbone)


def _weights(frozen: nnx.State, whole: Sharding) -> nnx.State:
    """The frozen weights where the mesh's rules have them; what has no named axes, on every device."""
    rule = weight_shardings()

    def place(leaf: nnx.Variable) -> nnx.Variable:
        sharding = rule(leaf.axes, leaf.shape) if rule and "axes" in leaf.get_metadata() else whole
        return leaf.replace(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding))

    return nnx.from_flat_state([(path, place(leaf)) for path, leaf in nnx.to_flat_state(frozen)])


def _batch(job: Job, layout) -> Batch:
    """A batch of rows that are all alike: what matters of it is the shapes."""
    rows = [Row([0] * job.inputs, [0] * job.labels)] * job.train.batch_size
    count = math.prod(job.mesh[:2])
    shards = Shards(tuple(range(count)), count) if mesh_in_use() is not None else None
    return collate_parts(rows, [0] * len(rows), job.train.parts, layout, shards)


def _placed(tree: Any, sharding: Sharding) -> Any:
    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding)

    return jax.tree.map(shape, tree)
