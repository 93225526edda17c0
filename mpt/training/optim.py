"""Adam with a rate per kind of parameter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int

# Prompt vectors have an embedding's scale, about 0.1; what multiplies them has scale 1; a net's and a
# backbone's weights move least. Words have all of a task to learn, beside vectors that know most of it.
GROUPS = {
    **dict.fromkeys(("vectors", "shared", "low", "shift", "target"), "vectors"),
    **dict.fromkeys(("u", "v", "scale"), "factors"),
    "words": "words",
    **dict.fromkeys(("a", "b", "net_down", "net_up", "norm_scale", "norm_bias"), "weights"),
}


class LearningRates(NamedTuple):
    """How fast each group of parameters moves, as arrays: runs that differ in these share a compiled step.

    Attributes:
        peak: group -> its learning rate at the end of the warm-up.
        warmup: steps in which the rates rise.
        steps: length of the run.
    """

    peak: Mapping[str, Float[ArrayLike, ""]]
    warmup: Int[ArrayLike, ""]
    steps: Int[ArrayLike, ""]

    @classmethod
    def of(cls, peak: Mapping[str, float], *, steps: int, warmup: float) -> LearningRates:
        """From plain numbers; here ``warmup`` is a share of ``steps``."""
        arrays = {name: np.float32(rate) for name, rate in peak.items()}
        return cls(arrays, np.int32(round(warmup * steps)), np.int32(steps))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) whose learning rates rise during the warm-up and fall to zero.

    Neither clipping nor weight decay is needed: Adam's update does not depend on the gradient's size.
    They are there to train as others do.

    Attributes:
        decay: how the rates fall.
        weight_decay: decoupled (Loshchilov & Hutter 2019): rate times this is taken off at each step.
        clip: largest norm of a prompt's gradient, see ``clipped``; 0 clips nothing.
    """

    decay: Literal["cosine", "linear"] = "cosine"
    weight_decay: float = 0.0
    clip: float = 0.0

    def __call__(self, rates: LearningRates) -> optax.GradientTransformation:
        """The optimizer with these learning rates; its state does not depend on them."""

        def group(peak: Float[ArrayLike, ""]) -> optax.GradientTransformation:
            schedule = partial(learning_rate, peak, rates.warmup, rates.steps, self.decay)
            if self.weight_decay:
                return optax.adamw(schedule, weight_decay=self.weight_decay)
            return optax.adam(schedule)

        groups: dict[Hashable, Any] = {name: group(peak) for name, peak in rates.peak.items()}
        whole = optax.partition(groups, _labels)
        whole = optax.chain(clipped(self.clip), whole) if self.clip else whole

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to a whole number's power
                return whole.update(updates, state, params)

        return optax.GradientTransformation(whole.init, update)


def learning_rate(
    peak: Float[ArrayLike, ""],
    warmup: Int[ArrayLike, ""],
    steps: Int[ArrayLike, ""],
    decay: Literal["cosine", "linear"],
    count: Int[ArrayLike, ""],
) -> Float[Array, ""]:
    """Up to ``peak`` in ``warmup`` steps, and down again: the step behind the last one has 0.

    optax's schedules are the same, but need to know these numbers when the step is compiled.

    Args:
        count: steps done.
    """
    count, warmup, steps = (jnp.asarray(number, jnp.float32) for number in (count, warmup, steps))
    rise = jnp.maximum(warmup, 1)
    risen = (1 + count * (1 - 1 / rise)) / rise
    fallen = jnp.clip((count - warmup) / (steps + 1 - warmup), 0, 1)
    left = 1 - fallen if decay == "linear" else (1 + jnp.cos(jnp.pi * fallen)) / 2
    return jnp.asarray(peak * jnp.where(count < warmup, risen, left))


def clipped(most: float) -> optax.GradientTransformation:
    """Gradients shortened to the norm ``most``, each of independent prompts by itself.

    J prompts trained side by side have a loss that is the mean over them, so each one's gradient is a
    J-th of what it has alone, and so is its bound. Prompts with a part in common are clipped together.
    """

    def update(gradient: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        prompts = {leaf.shape[0] for leaf in jax.tree.leaves(gradient)}
        if len(prompts) > 1 or "weights" in jax.tree.leaves(_labels(cast(nnx.State, gradient))):
            return _clip(gradient, most)
        return jax.vmap(lambda one: _clip(one, most / min(prompts)))(gradient)

    return optax.stateless(update)


def _clip(gradient: optax.Updates, most: float) -> optax.Updates:
    return optax.clip_by_global_norm(most).update(gradient, optax.EmptyState())[0]


def _labels(params: nnx.State) -> nnx.State:
    """Each parameter's group: the one that it names itself, else by its name; without one, a ``KeyError``."""
    return nnx.from_flat_state(
        [
            (path, variable.replace(variable.get_metadata().get("group") or _group(path)))
            for path, variable in nnx.to_flat_state(params)
        ]
    )


def _group(path: tuple) -> str:
    """All that stands in a backbone is weights; else the attribute's own name says it."""
    keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    if "backbone" in keys:
        return "weights"
    # NNX ends a path with the variable's own ``.value``.
    return GROUPS[next((key for key in reversed(keys) if key in GROUPS), ".".join(keys))]
