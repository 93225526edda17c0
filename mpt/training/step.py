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

from mpt.sharding import constrain, each_shard, over_shards, replicate, replicated_over_mesh
from mpt.training.losses import Objective, Term
from mpt.training.nonfinite import is_finite, select
from mpt.training.optim import LearningRates
from mpt.types import Batch, Layout


@dataclass(frozen=True)
class StepSpec:
    """The static arguments of a step: steps with equal ones, and arrays of the same shapes, share a program.

    Attributes:
        graph: the model without its arrays.
        objective: the loss terms of a batch, and their weights.
        optimizer: makes the optimizer from learning rates.
        prompts: number of prompts whose task loss is reported separately.
        shardings: the sharding of each array of parameters and optimizer state, in the order of their leaves;
            None leaves it to the compiler.
    """

    graph: nnx.GraphDef
    objective: Objective
    optimizer: Callable[[LearningRates], optax.GradientTransformation]
    prompts: int = 0
    shardings: tuple[Sharding, ...] | None = None


class TrainState(NamedTuple):
    """The state that a step replaces.

    Attributes:
        trainable: the parameters that are trained.
        opt_state: the optimizer's state.
    """

    trainable: nnx.State
    opt_state: optax.OptState

    @classmethod
    def initial(cls, trainable: nnx.State, optimizer: optax.GradientTransformation) -> TrainState:
        """The state before the first step, on the mesh in use.

        It has copies of the parameters: a step donates its arrays, and those of the model must not change.
        """
        copies = jax.tree.map(jnp.copy, trainable)
        return replicated_over_mesh(cls(copies, optimizer.init(copies)))


class Stepped(NamedTuple):
    """The result of a step.

    Attributes:
        trainable: the new parameters; ``opt_state`` is the optimizer's new state.
        losses: the mean of each loss term before the step, and "loss", their sum weighted by coefficients.
        by_prompt: the task loss of each prompt's own rows, as sums and weights.
        finite: whether loss and gradient were finite; if not, parameters and optimizer state are unchanged.
    """

    trainable: nnx.State
    opt_state: optax.OptState
    losses: dict[str, Float[Array, ""]]
    by_prompt: Term
    finite: Bool[Array, ""]


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(
    spec: StepSpec,
    trainable: nnx.State,
    opt_state: optax.OptState,
    frozen: nnx.State,
    batch: Batch,
    coefficients: Mapping[str, ArrayLike],
    learning_rates: LearningRates,
) -> Stepped:
    """Updates the trainable parameters once; all runs of one ``spec`` and one shape share the compiled step.

    A step whose loss or gradient is not finite changes nothing. Gradients are taken with respect to
    ``trainable`` alone; the frozen part is read, never written. The arrays of ``trainable`` and ``opt_state``
    are donated: they cannot be read any more.

    Args:
        batch: a stack of microbatches, whose gradients are added up. On a mesh each of them is a stack of
            shards: every device adds up the gradients of its own, and only the sums cross the network, once
            a step.
        coefficients: the factor on each loss term's mean, by name.
    """
    layout = nnx.merge(spec.graph, trainable, frozen).backbone.layout
    total_weights, prompt_weights = _total_weights(spec.objective, batch, layout, spec.prompts)

    def loss(trainable: nnx.State, microbatch: Batch):
        terms = spec.objective(nnx.merge(spec.graph, trainable, frozen), microbatch)
        by_prompt = terms["task"].of_prompts(microbatch.prompt_index, spec.prompts)
        means = {name: term.pooled.sum / total_weights[name] for name, term in terms.items()}
        total = sum(coefficients[name] * mean for name, mean in means.items())
        return total, ({"loss": total, **means}, by_prompt.sum)

    gradient_of = each_shard(jax.grad(loss, has_aux=True))

    def add(sums, microbatch: Batch):
        return jax.tree.map(jnp.add, sums, gradient_of(trainable, microbatch)), None

    first = jax.tree.map(lambda array: array[0], batch)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient_of, trainable, first))
    gradient, (losses, prompt_sums) = over_shards(jax.lax.scan(add, zeros, batch)[0])
    finite = is_finite(losses["loss"], gradient)
    updates, new_opt_state = spec.optimizer(learning_rates).update(gradient, opt_state, trainable)
    new: Any = optax.apply_updates(trainable, updates), new_opt_state
    trainable, opt_state = constrain(select(finite, new, (trainable, opt_state)), spec.shardings)
    by_prompt = jax.tree.map(replicate, Term(prompt_sums, prompt_weights))
    return Stepped(trainable, opt_state, losses, by_prompt, finite)


def _total_weights(
    objective: Objective, batch: Batch, layout: Layout, prompts: int
) -> tuple[dict[str, Float[Array, ""]], Float[Array, " J"]]:
    """The divisors of a whole batch's sums: for each loss term, and for each prompt's task loss.

    Microbatches share them, so that the sum of their losses is the mean over all rows of the batch.
    """

    def weights(_: None, microbatch: Batch):
        each = objective.weights(microbatch, layout)
        by_prompt = jax.ops.segment_sum(each["task"], microbatch.prompt_index, prompts)
        return {name: jnp.sum(weight) for name, weight in each.items()}, by_prompt

    stacked = jax.lax.map(partial(each_shard(weights), None), batch)
    return over_shards(jax.tree.map(lambda weight: jnp.sum(weight, axis=0), stacked))
