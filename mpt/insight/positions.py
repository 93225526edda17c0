"""Which vectors of a prompt matter: the loss without each, and where labels look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from mpt.inference.evaluate import BATCH, in_batches, target_scores
from mpt.insight.attention import prompt_mass
from mpt.models.backbone import Backbone
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row


class Ablation(NamedTuple):
    """What a prompt's vectors are worth, in nats.

    Attributes:
        loss: with the whole prompt: -log p(target) of a row, mean over rows.
        rise: by how much the loss rises without each vector.
        error: standard error of each rise, from the rows' own rises; NaN for one row.
    """

    loss: float
    rise: Float[np.ndarray, " P"]
    error: Float[np.ndarray, " P"]


def ablation(
    backbone: Backbone,
    vectors: Float[np.ndarray, "P D"],
    rows: Sequence[Row],
    done: Callable[[], object] = lambda: None,
) -> Ablation:
    """Leaves out each vector in turn.

    The prompt is then one shorter: what stood behind the vector moves up by one place. (A masked vector
    would leave a hole, which no prompt in use has.)

    Args:
        done: called after each vector.
    """
    whole = row_losses(backbone, vectors, rows)
    rises = []
    for place in range(len(vectors)):
        rises.append(row_losses(backbone, np.delete(vectors, place, axis=0), rows) - whole)
        done()
    rise = np.stack(rises)
    error = rise.std(axis=1, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.full(len(rise), np.nan)
    return Ablation(float(whole.mean()), rise.mean(axis=1), error)


def row_losses(
    backbone: Backbone, vectors: Float[np.ndarray, "P D"], rows: Sequence[Row]
) -> Float[np.ndarray, " rows"]:
    """-log p(target) of each row behind a prompt, in nats."""
    graph, state = nnx.split(Prompted(backbone, SoftPrompt(jnp.asarray(vectors[None]))))
    losses = np.zeros(len(rows))
    for places, batch in in_batches(rows, [0] * len(rows), min(BATCH, len(rows)), backbone.layout):
        losses[places] = -np.asarray(target_scores(graph, state, batch))[: len(places)]
    return losses


def attention(
    backbone: Backbone, vectors: Float[np.ndarray, "P D"], rows: Sequence[Row]
) -> dict[str, Float[np.ndarray, "layers P"]]:
    """``prompt_mass`` of one prompt, as the mean over rows."""
    found: dict[str, list[np.ndarray]] = {}
    for places, batch in in_batches(rows, [0] * len(rows), min(BATCH, len(rows)), backbone.layout):
        for name, mass in prompt_mass(backbone, batch, jnp.asarray(vectors[None])).items():
            found.setdefault(name, []).append(np.asarray(mass)[:, : len(places)])
    return {name: np.concatenate(parts, axis=1).mean(axis=1) for name, parts in found.items()}
