"""Scores of class words, from the outputs at the inner nodes of their trees."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mpt.types import ClassTree

# Logits that are in memory at a time: those of all nodes would be gigabytes.
LOGITS = 2**23


def class_scores(
    hidden: Float[Array, "N D"],
    tree: ClassTree,
    logits: Callable[[Float[Array, "... D"]], Float[Array, "... V"]],
    logits_of: Callable[[Float[Array, "... D"], Int[Array, ...]], Float[Array, ...]],
    vocab: int,
) -> Float[Array, "B C"]:
    """The score of each class word: log p(token | parent) along its path, times its scale; -inf for no class.

    Args:
        hidden: the final hidden states that ``tree.branches`` refers to.
        logits: the logits of hidden states.
        logits_of: their logits of one token each.
    """
    branches = hidden[tree.branches]
    normalisers = _in_parts(lambda x: jax.nn.logsumexp(logits(x), axis=-1), branches, LOGITS // vocab)
    log_p = logits_of(branches[tree.parents], tree.tokens) - normalisers[tree.parents]
    row = jnp.arange(len(log_p))[:, None, None]
    steps = log_p.at[row, tree.paths].get(mode="fill", fill_value=0.0)
    return jnp.where(tree.real, jnp.sum(steps, axis=-1) * tree.scale, -jnp.inf)


def _in_parts(function: Callable[[Array], Array], x: Float[Array, "K D"], size: int) -> Float[Array, " K"]:
    """``function`` of ``x``, for ``size`` elements at a time; the backward pass computes each part again."""
    if len(x) <= size:
        return function(x)
    return jax.lax.map(jax.checkpoint(function), x, batch_size=max(size, 1))
