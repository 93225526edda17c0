"""A model between two others: where training began, and where it ended (Wortsman et al., CVPR 2022).

Part of the way keeps more of what the frozen model could do before, and other tasks than those that were
learnt may gain by it.
"""

from __future__ import annotations

import jax
from flax import nnx
from flax.nnx.filterlib import Filter

from mpt.prompts.prompted import Prompted
from mpt.sharding import replicated_over_mesh


def between(start: Prompted, end: Prompted, part: float, trained: Filter) -> Prompted:
    """The model whose trained parameters are ``part`` of the way from ``start`` to ``end``.

    Args:
        trained: which parameters are, an NNX filter; the others are those of ``end``.
    """
    graph, first, _ = nnx.split(start, trained, ...)
    _, last, others = nnx.split(end, trained, ...)
    mixed = jax.tree.map(lambda a, b: a + part * (b - a), replicated_over_mesh(first), last)
    return nnx.merge(graph, mixed, others)
