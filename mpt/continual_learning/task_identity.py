"""Which task a text is of, where nobody says: from what the frozen backbone makes of the text alone.

A text's features are the mean of the final hidden states of its tokens, behind no prompt. Tasks are
Gaussians of one covariance, so the likeliest task is the one whose mean is nearest in Mahalanobis'
distance: linear discriminant analysis, whose sums can be kept up one task after another, without an
old row and without a gradient (Hayes & Kanan, CVPR workshops 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from safetensors.numpy import load, save

from mpt.data.task import Example
from mpt.inference.evaluate import BATCH, in_batches
from mpt.loading.hf import Pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.rundir.directory import write_whole
from mpt.system.paths import AnyPath
from mpt.types import Batch, Row

# Share of the covariance that is made round: far fewer rows have been seen than it has directions.
ROUNDED = 0.1


@dataclass(frozen=True)
class Keys:
    """What is kept of each task's training rows.

    Attributes:
        means: their mean features.
        scatter: the sum over all rows of the outer product of what they differ by from their task's mean.
        rows: how many rows.
    """

    means: Float[np.ndarray, "J D"]
    scatter: Float[np.ndarray, "D D"]
    rows: int

    @classmethod
    def none(cls, width: int) -> Keys:
        """Those of no task, for features of ``width``."""
        return cls(np.zeros((0, width)), np.zeros((width, width)), 0)

    def learned(self, features: Float[np.ndarray, "B D"]) -> Keys:
        """These and the key of one more task, made of its rows' features."""
        mean = features.mean(axis=0, dtype=np.float64)
        apart = features - mean
        return Keys(
            np.concatenate([self.means, mean[None]]),
            self.scatter + apart.T @ apart,
            self.rows + len(features),
        )

    def nearest(self, features: Float[np.ndarray, "B D"]) -> Int[np.ndarray, " B"]:
        """The place of the task that each row is likeliest of; all tasks are as common."""
        covariance, width = self.scatter / self.rows, len(self.scatter)
        round_one = np.eye(width) * np.trace(covariance) / width
        precision = np.linalg.inv((1 - ROUNDED) * covariance + ROUNDED * round_one)
        weights = self.means @ precision  # [J, D]
        return (features @ weights.T - 0.5 * np.sum(weights * self.means, axis=1)).argmax(axis=1)

    def save(self, file: AnyPath) -> None:
        tensors = {"means": self.means, "scatter": self.scatter, "rows": np.array(self.rows)}
        write_whole(file, save(tensors))

    @classmethod
    def load(cls, file: AnyPath) -> Keys:
        found = load(file.read_bytes())
        return cls(found["means"], found["scatter"], int(found["rows"]))


def plain_text(example: Example) -> str:
    """An example's text without its template, whose words would tell the task."""
    return " ".join(example.fields.values())


def features(pretrained: Pretrained, texts: Sequence[str], max_length: int) -> Float[np.ndarray, "B D"]:
    """The mean final hidden state of each text's first ``max_length`` tokens."""
    backbone = pretrained.backbone
    end: Any = pretrained.tokenizer.eos_token_id
    found: Any = pretrained.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    rows = [Row(ids[:max_length] or [end], [end]) for ids in found]  # an empty text, too, is one token
    nothing = SoftPrompt(jnp.zeros((1, 0, backbone.embedding.shape[1])))
    graph, state = nnx.split(Prompted(backbone, nothing))
    parts = [
        np.asarray(_means(graph, state, batch))[: len(places)]
        for places, batch in in_batches(rows, [0] * len(rows), BATCH, backbone.layout)
    ]
    return np.concatenate(parts)


@jax.jit(static_argnums=0)
def _means(graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, "B D"]:
    """Each row's mean over the states of its text."""
    states = nnx.merge(graph, state)(batch).hidden[0].astype(jnp.float32)
    spread = jnp.take(states, jnp.asarray(batch.grid), axis=0, mode="fill", fill_value=0.0)
    return spread.sum(axis=1) / batch.filled.sum(axis=1, keepdims=True, dtype=jnp.float32)
