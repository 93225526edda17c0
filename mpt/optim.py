"""Adam with a rate per kind of parameter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import jax
import optax
from flax import nnx

# Prompt vectors have an embedding's scale, about 0.1; u and v multiply them and have scale 1.
GROUPS = {"vectors": "vectors", "shared": "vectors", "u": "factors", "v": "factors"}


def adam(rates: Mapping[str, float], *, steps: int, warmup: float) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) whose rate rises over the first ``warmup`` part and falls to zero.

    No weight decay and no clipping: Adam's update does not depend on the gradient's size, and the
    prompts of a vectorised job stay independent of each other.

    Args:
        rates: the peak learning rate of each group of ``GROUPS``.
        steps: length of the run.
        warmup: share of ``steps`` in which the rate rises.
    """
    first = round(warmup * steps)
    groups: dict[Hashable, optax.GradientTransformation] = {
        name: optax.adam(optax.warmup_cosine_decay_schedule(rate / max(first, 1), rate, first, steps + 1))
        for name, rate in rates.items()
    }
    return optax.partition(groups, _labels)


def _labels(params: nnx.State) -> nnx.State:
    """Each parameter's group, by its own name; a name without a group is a ``KeyError``."""
    return jax.tree.map_with_path(lambda path, _: GROUPS[_name(path)], params)


def _name(path: tuple) -> str:
    """The attribute's name: NNX ends a path with the variable's own ``.value``."""
    keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    return next((key for key in reversed(keys) if key in GROUPS), ".".join(keys))
