"""Adam with a learning rate for each kind of parameter."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int

from mpt.config.options import Decay
from mpt.prompts.multitask import Words
from mpt.prompts.soft import PromptParam

# From a parameter's name to its group, whose members share a learning rate. Prompt vectors have the scale of
# embeddings, about 0.1; keys and values have scale 1, as have the factors that multiply vectors; weights of a
# small net or of a backbone need the smallest steps. An instruction embedding ("words") has to learn all of a
# new task, while the shared vectors change little.
GROUPS = {
    **dict.fromkeys(("vectors", "shared", "low", "shift", "target"), "vectors"),
    **dict.fromkeys(("u", "v", "scale", "keys", "values"), "factors"),
    "words": "words",
    **dict.fromkeys(("a", "b", "net_down", "net_up", "norm_scale", "norm_bias"), "weights"),
}


class LearningRates(NamedTuple):
    """The learning rate of each group of parameters over a run.

    These are arrays, so that runs with other learning rates share a compiled step.

    Attributes:
        peak: the learning rate of each group at the end of the warm-up, by the group's name: one for all
            prompts, or one for each of them.
        warmup: number of steps over which the learning rates rise.
        steps: number of steps of the run.
    """

    peak: Mapping[str, Float[ArrayLike, "*J"]]
    warmup: Int[ArrayLike, ""]
    steps: Int[ArrayLike, ""]

    @classmethod
    def of(
        cls, peak: Mapping[str, float], *, steps: int, warmup: float, scale: Sequence[float] = ()
    ) -> LearningRates:
        """From plain numbers.

        Args:
            warmup: as a fraction of ``steps``.
            scale: what each prompt's learning rates are multiplied by; without any, all have the same.
        """
        factors = np.array(scale, np.float32) if scale else np.float32(1)
        arrays = {name: learning_rate * factors for name, learning_rate in peak.items()}
        return cls(arrays, np.int32(round(warmup * steps)), np.int32(steps))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) whose learning rates rise during the warm-up and then fall to zero.

    Neither clipping nor weight decay is needed, since Adam's update does not depend on the gradient's scale:
    they serve to train as published methods do.

    Attributes:
        decay: the shape of the fall.
        weight_decay: decoupled weight decay (Loshchilov & Hutter 2019): a step subtracts this times the
            learning rate times the value.
        clip: the largest norm of a prompt's gradient, see ``clipped``; 0 disables clipping.
    """

    decay: Decay = "cosine"
    weight_decay: float = 0.0
    clip: float = 0.0

    def __call__(self, learning_rates: LearningRates) -> optax.GradientTransformation:
        """The optimizer with these learning rates; the structure of its state does not depend on them."""

        def group(peak: Float[ArrayLike, "*J"]) -> optax.GradientTransformation:
            warmup, steps = learning_rates.warmup, learning_rates.steps
            schedule = partial(learning_rate, peak, warmup, steps, self.decay)
            decay = (optax.add_decayed_weights(self.weight_decay),) if self.weight_decay else ()
            return optax.chain(optax.scale_by_adam(), *decay, descend(schedule))

        groups: dict[Hashable, Any] = {name: group(peak) for name, peak in learning_rates.peak.items()}
        optimizer = optax.partition(groups, _labels)
        optimizer = optax.chain(clipped(self.clip), optimizer) if self.clip else optimizer

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to a whole number's power
                return optimizer.update(updates, state, params)

        return optax.GradientTransformation(optimizer.init, update)


def descend(schedule: Callable[[ArrayLike], Float[Array, "*J"]]) -> optax.GradientTransformation:
    """Multiplies updates by minus the learning rate of a schedule, each prompt's by its own.

    optax's transformation of the kind knows one learning rate for all.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        rate = -schedule(state.count)

        def scaled(leaf: Array) -> Array:
            return rate.reshape(rate.shape + (1,) * (leaf.ndim - rate.ndim)).astype(leaf.dtype) * leaf

        count = optax.safe_increment(state.count)
        return jax.tree.map(scaled, updates), optax.ScaleByScheduleState(count)

    def initial(params: Any) -> Any:
        return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

    return optax.GradientTransformation(initial, update)


def are_still(params: nnx.State, learning_rates: LearningRates) -> bool:
    """Whether no parameter can move, since the learning rates of all their groups are 0."""
    return not any(np.any(learning_rates.peak[group]) for group in jax.tree.leaves(_labels(params)))


def learning_rate(
    peak: Float[ArrayLike, "*J"],
    warmup: Int[ArrayLike, ""],
    steps: Int[ArrayLike, ""],
    decay: Decay,
    count: Int[ArrayLike, ""],
) -> Float[Array, "*J"]:
    """The learning rate of one step: it rises to ``peak`` in ``warmup`` steps, and would be 0 after the last.

    optax's schedules give the same values, but need these numbers when the step is compiled.

    Args:
        count: number of steps done before this one.
    """
    count, warmup, steps = (jnp.asarray(number, jnp.float32) for number in (count, warmup, steps))
    rise = jnp.maximum(warmup, 1)
    rising = (1 + count * (1 - 1 / rise)) / rise
    progress = jnp.clip((count - warmup) / (steps + 1 - warmup), 0, 1)
    falls = {
        "constant": jnp.ones_like,
        "linear": lambda x: 1 - x,
        "cosine": lambda x: (1 + jnp.cos(jnp.pi * x)) / 2,
    }
    falling = falls[decay](progress)
    return jnp.asarray(peak * jnp.where(count < warmup, rising, falling))


def clipped(max_norm: float) -> optax.GradientTransformation:
    """Scales gradients down to the norm ``max_norm``, independent prompts one by one.

    The loss of J prompts that are trained side by side is the mean over them, so each gradient is 1/J of what
    it would be alone, and its bound is ``max_norm`` / J. Prompts that share parameters are clipped together.
    """

    def update(gradient: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        counts = {leaf.shape[0] for leaf in jax.tree.leaves(gradient)}
        parts = [variable for _, variable in nnx.to_flat_state(cast(nnx.State, gradient))]
        if len(counts) > 1 or not all(isinstance(part, PromptParam | Words) for part in parts):
            return _clip(gradient, max_norm)
        return jax.vmap(lambda prompt: _clip(prompt, max_norm / min(counts)))(gradient)

    return optax.stateless(update)


def _clip(gradient: optax.Updates, max_norm: float) -> optax.Updates:
    return optax.clip_by_global_norm(max_norm).update(gradient, optax.EmptyState())[0]


def _labels(params: nnx.State) -> nnx.State:
    """The group of each parameter: the one in its metadata, or else the one of its name.

    Raises:
        KeyError: a parameter has neither.
    """
    return nnx.from_flat_state(
        [
            (path, variable.replace(variable.get_metadata().get("group") or _group(path)))
            for path, variable in nnx.to_flat_state(params)
        ]
    )


def _group(path: tuple) -> str:
    """The group of a parameter by its path: "weights" inside a backbone, else by the attribute's name."""
    keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    if "backbone" in keys:
        return "weights"
    # NNX ends a path with the variable's own ``.value``.
    return GROUPS[next((key for key in reversed(keys) if key in GROUPS), ".".join(keys))]
