"""A train step of shapes alone: the real one, without memory for its arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from mpt.data.batches import collate_microbatches
from mpt.loading.shapes import abstract_backbone
from mpt.plan.job import Job
from mpt.prompts import MultitaskPrompt, Prompt, PromptParam, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.sharding import ROWS, mesh_in_use, shardings_of, weight_shardings
from mpt.training.loop import optimizer_of
from mpt.training.losses import Objective, distillation_loss, task_loss
from mpt.training.optim import LearningRates
from mpt.training.step import StepSpec, train_step
from mpt.types import Batch, Row, Shards


def abstract_model(job: Job) -> Prompted:
    """The model that a job trains the prompts of."""
    model = job.model
    backbone = abstract_backbone(model.name, model.dtype, model.weights, model.remat, model.decoder_prompt)
    width = backbone.embedding.shape[1]

    def build(backbone) -> Prompted:
        prompt, taught = _prompt(job, width), jnp.zeros((job.prompts, job.length, width))
        return Distilled(backbone, prompt, taught) if job.distilled else Prompted(backbone, prompt)

    return nnx.eval_shape(build, backbone)


def _prompt(job: Job, width: int) -> Prompt:
    if not job.rank:
        return SoftPrompt(jnp.zeros((job.prompts, job.length, width)), job.layer)
    shared = jnp.zeros((job.shared, job.length, width))
    u, v = jnp.zeros((job.prompts, job.length, job.rank)), jnp.zeros((job.prompts, job.rank, width))
    return MultitaskPrompt(shared, u, v, layer=job.layer)


class Step(NamedTuple):
    """The arguments of a train step: what it is compiled for, and shapes with the devices where they live."""

    spec: StepSpec
    trainable: nnx.State
    opt_state: optax.OptState
    frozen: nnx.State
    batch: Batch
    weights: dict[str, Any]
    rates: LearningRates

    def lower(self) -> Any:
        """The step as JAX's compiler takes it."""
        return train_step.lower(*self)


def abstract_step(job: Job, model: Prompted, device: Any) -> Step:
    """The train step on the mesh in use, or where there is none, on ``device``.

    All rows are as long as the job says.
    """
    mesh = mesh_in_use()
    replicated = SingleDeviceSharding(device) if mesh is None else NamedSharding(mesh, PartitionSpec())
    by_rows = replicated if mesh is None else NamedSharding(mesh, PartitionSpec(None, ROWS))
    graph, params, frozen = nnx.split(model, PromptParam, ...)
    optimizer, rates = optimizer_of(job.train)
    params, opt_state = _placed((params, jax.eval_shape(optimizer(rates).init, params)), replicated)
    terms = ("task", "kl", "hidden") if job.distilled else ("task",)
    weights, rates = _placed((dict.fromkeys(terms, np.float32(1)), rates), replicated)
    spec = StepSpec(graph, objective(job), optimizer, shardings=shardings_of((params, opt_state)))
    count = job.mesh.data * job.mesh.fsdp
    shards = None if mesh is None else Shards(tuple(range(count)), count)
    batch = _placed(_batch(job, model, job.rows, job.train.microbatches, shards), by_rows)
    return Step(spec, params, opt_state, _weights(frozen, replicated), batch, weights, rates)


def objective(job: Job) -> Objective:
    return distillation_loss if job.distilled else task_loss


def kept_bytes(job: Job, model: Prompted) -> int:
    """Bytes that the forward pass over one shard keeps for the backward pass.

    They are for a chip that has all heads: with ``tensor``, a chip keeps less.
    """
    graph, params, frozen = nnx.split(model, PromptParam, ...)
    batch = _batch(job, model, job.rows // job.shards, 1)
    part = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), batch)

    def residuals(params: nnx.State, frozen: nnx.State, part: Batch) -> list[jax.Array]:
        def loss(params: nnx.State) -> jax.Array:
            terms = objective(job)(nnx.merge(graph, params, frozen), part)
            return sum((term.mean for term in terms.values()), jnp.zeros(()))

        return jax.tree.leaves(jax.vjp(loss, params)[1])

    traced = jax.make_jaxpr(residuals)(params, frozen, part).jaxpr
    # What goes in and comes out again is a weight or the batch: it is there anyway.
    made = {id(var): var.aval for var in traced.outvars if var not in traced.invars + traced.constvars}
    return sum(aval.size * aval.dtype.itemsize for aval in made.values())


def weight_bytes(frozen: nnx.State) -> int:
    """Bytes of one device's part of the frozen weights."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(frozen)
    )


def _weights(frozen: nnx.State, replicated: Sharding) -> nnx.State:
    """The weights as the mesh deals them out; what has no named axes is replicated on each device."""
    rule = weight_shardings()

    def place(leaf: nnx.Variable) -> nnx.Variable:
        sharding = rule(leaf.axes, leaf.shape) if rule and "axes" in leaf.get_metadata() else replicated
        return leaf.replace(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding))

    return nnx.from_flat_state([(path, place(leaf)) for path, leaf in nnx.to_flat_state(frozen)])


def _batch(job: Job, model: Prompted, rows: int, parts: int, shards: Shards | None = None) -> Batch:
    row, classes = Row([0] * job.inputs, [0] * job.labels), job.nodes >= 0
    if classes:  # words of two tokens, or of one
        row = row._replace(choices=tuple([i, 0] for i in range(job.nodes)) or ([0], [1]), label=0)
    return collate_microbatches([row] * rows, [0] * rows, parts, model.backbone.layout, shards, classes)


def _placed(tree: Any, sharding: Sharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
