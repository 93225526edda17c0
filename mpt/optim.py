"""Adam with a rate per kind of parameter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import cast

import jax
import optax
from flax import nnx

# Prompt vectors have an embedding's scale, about 0.1; what multiplies them has scale 1; a net's and a
# backbone's weights move least. Words have all of a task to learn, beside vectors that know most of it.
GROUPS = {
    **dict.fromkeys(("vectors", "shared", "low", "shift", "target"), "vectors"),
    **dict.fromkeys(("u", "v", "scale"), "factors"),
    "words": "words",
    **dict.fromkeys(("a", "b", "net_down", "net_up", "norm_scale", "norm_bias"), "weights"),
}


def adam(
    rates: Mapping[str, float],
    *,
    steps: int,
    warmup: float,
    decay: str = "cosine",
    weight_decay: float = 0.0,
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) whose rate rises over the first ``warmup`` part and falls to zero.

    Neither clipping nor weight decay is needed: Adam's update does not depend on the gradient's size.
    They are there to train as others do.

    Args:
        rates: the peak learning rate of each group, "vectors", "factors", "words" and "weights".
        steps: length of the run.
        warmup: share of ``steps`` in which the rate rises.
        decay: "cosine" or "linear".
        weight_decay: decoupled (Loshchilov & Hutter 2019): rate times this is taken off at each step.
        clip: largest norm of a prompt's gradient; see ``clipped``.
    """

    def group(rate: float) -> optax.GradientTransformation:
        schedule = _schedule(rate, steps, round(warmup * steps), decay)
        return optax.adamw(schedule, weight_decay=weight_decay) if weight_decay else optax.adam(schedule)

    groups: dict[Hashable, optax.GradientTransformation] = {name: group(rate) for name, rate in rates.items()}
    whole = optax.partition(groups, _labels)
    return optax.chain(clipped(clip), whole) if clip else whole


def _schedule(rate: float, steps: int, first: int, decay: str) -> optax.Schedule:
    """Up to ``rate`` in ``first`` steps, and down again: the step behind the last one has 0."""
    if decay == "cosine":
        return optax.warmup_cosine_decay_schedule(rate / max(first, 1), rate, first, steps + 1)
    rise = optax.linear_schedule(rate / max(first, 1), rate, first)
    return optax.join_schedules([rise, optax.linear_schedule(rate, 0.0, steps + 1 - first)], [first])


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
    """Each parameter's group; one without a group is a ``KeyError`` that names it."""
    return jax.tree.map_with_path(lambda path, _: _group(path), params)


def _group(path: tuple) -> str:
    """All that stands in a backbone is weights; else the attribute's own name says it."""
    keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    if "backbone" in keys:
        return "weights"
    # NNX ends a path with the variable's own ``.value``.
    return GROUPS[next((key for key in reversed(keys) if key in GROUPS), ".".join(keys))]
