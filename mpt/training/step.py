"""The one train step: a pure function of parameters, batch and learning rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Sharding
from jaxtyping import Array, ArrayLike, Bool, Float

from mpt.sharding import each_shard, everywhere, kept_at, over_shards
from mpt.training.losses import Objective, Term
from mpt.training.nonfinite import choose, is_good
from mpt.training.optim import LearningRates
from mpt.types import Batch


@dataclass(frozen=True)
class StepSpec:
    """All that a compiled step depends on beside the shapes of its arrays: equal ones share a program.

    Attributes:
        graph: the model without its arrays.
        objective: the loss terms of a batch, and their weights.
        optimizer: gives the optimizer of learning rates.
        prompts: number of prompts whose task loss is reported separately.
        homes: where the arrays of the state live, in the order of its leaves; None leaves it to the compiler.
    """

    graph: nnx.GraphDef
    objective: Objective
    optimizer: Callable[[LearningRates], optax.GradientTransformation]
    prompts: int = 0
    homes: tuple[Sharding, ...] | None = None


class Stepped(NamedTuple):
    """What a step gives.

    Attributes:
        trainable: the new parameters; ``opt_state`` is the optimizer's new state.
        losses: the mean of each loss term before the step, and "loss", their weighted sum.
        by_prompt: the task loss of each prompt's own rows.
        good: whether loss and gradient were finite.
    """

    trainable: nnx.State
    opt_state: optax.OptState
    losses: dict[str, Float[Array, ""]]
    by_prompt: Term
    good: Bool[Array, ""]


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(
    spec: StepSpec,
    trainable: nnx.State,
    opt_state: optax.OptState,
    frozen: nnx.State,
    batch: Batch,
    weights: Mapping[str, ArrayLike],
    rates: LearningRates,
) -> Stepped:
    """One step of training, compiled once for all runs of one ``spec`` and one shape.

    A step whose loss or gradient is not finite changes nothing. Gradients are taken with respect to
    ``trainable`` alone; the frozen part is read, never written.
    The batch is a stack of microbatches, whose gradients are added up. On a mesh each is a stack of shards:
    every device adds up the gradients of its own, and only their sums cross the network, once a step.

    Args:
        weights: loss term -> its coefficient.
    """
    layout = nnx.merge(spec.graph, trainable, frozen).backbone.layout

    def divisors(_: nnx.State, part: Batch):
        each = spec.objective.weights(part, layout)
        by_prompt = jax.ops.segment_sum(each["task"], part.prompt_index, spec.prompts)
        return {name: jnp.sum(weight) for name, weight in each.items()}, by_prompt

    # A mean is over all rows: what a microbatch's sums are divided by is known before its gradient is taken.
    parts = jax.lax.map(partial(each_shard(divisors), trainable), batch)
    totals, rows = over_shards(jax.tree.map(lambda each: jnp.sum(each, axis=0), parts))

    def loss(trainable: nnx.State, part: Batch):
        terms = spec.objective(nnx.merge(spec.graph, trainable, frozen), part)
        by_prompt = terms["task"].of_prompts(part.prompt_index, spec.prompts)
        means = {name: term.pooled.sum / totals[name] for name, term in terms.items()}
        total = sum(weights[name] * mean for name, mean in means.items())
        return total, ({"loss": total, **means}, by_prompt.sum)

    gradient_of = each_shard(jax.grad(loss, has_aux=True))

    def add(sums, part: Batch):
        return jax.tree.map(jnp.add, sums, gradient_of(trainable, part)), None

    first = jax.tree.map(lambda array: array[0], batch)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient_of, trainable, first))
    gradient, (losses, sums) = over_shards(jax.lax.scan(add, zeros, batch)[0])
    good = is_good(losses["loss"], gradient)
    updates, moments = spec.optimizer(rates).update(gradient, opt_state, trainable)
    moved: Any = optax.apply_updates(trainable, updates)
    trainable, opt_state = kept_at(choose(good, (moved, moments), (trainable, opt_state)), spec.homes)
    return Stepped(trainable, opt_state, losses, jax.tree.map(everywhere, Term(sums, rows)), good)
