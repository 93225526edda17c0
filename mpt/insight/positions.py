"""Which vectors of a prompt matter: the loss without each vector, and the attention on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mpt.inference.evaluate import BATCH, in_batches, target_log_p
from mpt.insight.attention import prompt_mass
from mpt.models.backbone import Backbone
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row


class Ablation(NamedTuple):
    """The effect of leaving out each vector of a prompt, in nats.

    Attributes:
        loss: -log p(target) with the complete prompt, averaged over rows.
        rise: the increase of the loss without each vector.
        error: the standard error of each rise over the rows; NaN for a single row.
    """

    loss: float
    rise: Float[np.ndarray, " P"]
    error: Float[np.ndarray, " P"]


def ablation(
    backbone: Backbone,
    vectors: Float[np.ndarray, "P D"],
    rows: Sequence[Row],
    done: Callable[[], object] = lambda: None,
    layer: int = 0,
) -> Ablation:
    """Measures the loss without each vector of a prompt, one at a time.

    The prompt is then one vector shorter, and the vectors after it move up by one position. (Masking the
    vector would leave a gap, which no prompt in use has.)

    Args:
        done: is called after each vector.
        layer: the layer before which the prompt enters.
    """
    losses = row_losses(backbone, vectors, rows, layer)
    rises = []
    for position in range(len(vectors)):
        rises.append(row_losses(backbone, np.delete(vectors, position, axis=0), rows, layer) - losses)
        done()
    rise = np.stack(rises)
    error = rise.std(axis=1, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.full(len(rise), np.nan)
    return Ablation(float(losses.mean()), rise.mean(axis=1), error)


def row_losses(
    backbone: Backbone, vectors: Float[np.ndarray, "P D"], rows: Sequence[Row], layer: int = 0
) -> Float[np.ndarray, " rows"]:
    """-log p(target) of each row after a prompt, in nats."""
    model = Prompted(backbone, SoftPrompt(jnp.asarray(vectors[None]), layer))
    return -target_log_p(model, rows, [0] * len(rows), min(BATCH, len(rows)))


def attention(
    backbone: Backbone, vectors: Float[np.ndarray, "P D"], rows: Sequence[Row]
) -> dict[str, Float[np.ndarray, "layers P"]]:
    """The fraction of attention on each vector of a prompt, averaged over rows; see ``prompt_mass``."""
    masses: dict[str, list[np.ndarray]] = {}
    for indices, batch in in_batches(rows, [0] * len(rows), min(BATCH, len(rows)), backbone.layout):
        for name, mass in prompt_mass(backbone, batch, jnp.asarray(vectors[None])).items():
            masses.setdefault(name, []).append(np.asarray(mass)[:, : len(indices)])
    return {name: np.concatenate(of_batches, axis=1).mean(axis=1) for name, of_batches in masses.items()}
