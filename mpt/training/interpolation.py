"""Interpolates between a model before and after training (Wortsman et al., CVPR 2022).

A model in between keeps more of the frozen model's abilities, which can help with tasks unlike the training
tasks.
"""

from __future__ import annotations

import jax
from flax import nnx
from flax.nnx.filterlib import Filter

from mpt.prompts.prompted import Prompted
from mpt.sharding import replicated_over_mesh


def between(start: Prompted, end: Prompted, part: float, trained: Filter) -> Prompted:
    """The model with the trained parameters ``(1 - part) · start + part · end``.

    Args:
        trained: an NNX filter for the trained parameters; the others are those of ``end``.
    """
    if part == 1:
        return end
    graph, first, _ = nnx.split(start, trained, ...)
    _, last, others = nnx.split(end, trained, ...)
    mixed = jax.tree.map(lambda a, b: a + part * (b - a), replicated_over_mesh(first), last)
    return nnx.merge(graph, mixed, others)
