"""What prompts make of rows that they did not learn from: class scores, their loss, and their calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax

from mpt.inference.evaluate import BATCH, choice_probabilities, in_batches, target_scores
from mpt.prompts.prompted import Prompted
from mpt.types import Row

TEMPERATURES = np.geomspace(0.1, 2.0, 20)
TINY = np.finfo(np.float32).tiny


class Scores(NamedTuple):
    """The log-probabilities of the classes of some rows, and the true classes."""

    log_p: Float[np.ndarray, "N C"]
    labels: Int[np.ndarray, " N"]

    def loss(self, scale: float = 1.0, shift: Float[np.ndarray, " C"] | float = 0.0) -> float:
        """The mean of -log p(label) in nats, with scores multiplied by ``scale`` and moved by ``shift``."""
        moved = log_softmax(self.log_p * scale + shift, axis=1)
        return -float(np.mean(moved[np.arange(len(self.labels)), self.labels]))

    def tempered_loss(self) -> float:
        """The loss at the temperature that makes it least, for a prompt that is only too sure is no worse."""
        return min(self.loss(scale) for scale in TEMPERATURES)


class Calibration(NamedTuple):
    """What scores are multiplied by, and what is added to each class's."""

    scale: float
    shift: Float[np.ndarray, " C"]

    @classmethod
    def fit(cls, scores: Scores, penalty: float = 0.05) -> Calibration:
        """The scale and shifts of the least loss on held-out rows, with a penalty on what they change.

        Supervised calibration (arXiv 2505.23783) fits a scale per class too; of few rows, one is all that
        can be told.

        Args:
            penalty: on the squared logarithm of the scale, and on the mean squared shift, in nats.
        """
        classes = scores.log_p.shape[1]

        def penalised(x: Float[np.ndarray, " parameters"]) -> float:
            scale, shift = np.exp(x[0]), x[1:]
            return scores.loss(scale, shift) + penalty * (x[0] ** 2 / 10 + np.mean(shift**2))

        found = minimize(penalised, np.zeros(classes + 1), method="L-BFGS-B").x
        return cls(float(np.exp(found[0])), found[1:] - found[1:].mean())


def class_scores(model: Prompted, rows: Sequence[Row], prompts: Sequence[int]) -> Scores:
    """The class scores of rows, each by the prompt of that index."""
    probabilities = choice_probabilities(model, rows, prompts)
    return Scores(np.log(np.maximum(probabilities, TINY)), np.array([row.label for row in rows]))


def text_loss(model: Prompted, rows: Sequence[Row], prompts: Sequence[int]) -> float:
    """The mean of -log p(token) of the rows' targets in nats, each by the prompt of that index."""
    graph, state = nnx.split(model)
    total = 0.0
    for indices, batch in in_batches(rows, prompts, BATCH, model.backbone.layout):
        total -= float(np.sum(np.asarray(target_scores(graph, state, batch))[: len(indices)]))
    return total / sum(len(row.targets) for row in rows)
