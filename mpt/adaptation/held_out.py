"""Prompts on rows that they were not trained on: class scores, their loss, and their calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax

from mpt.inference.evaluate import choice_probabilities, target_log_p
from mpt.prompts.prompted import Prompted
from mpt.types import Row

TEMPERATURES = np.geomspace(0.1, 2.0, 20)
TINY = np.finfo(np.float32).tiny


class Scores(NamedTuple):
    """The log-probabilities of the classes of some rows, and the true classes."""

    log_p: Float[np.ndarray, "N C"]
    labels: Int[np.ndarray, " N"]

    def loss(self, scale: float = 1.0, shift: Float[np.ndarray, " C"] | float = 0.0) -> float:
        """The mean of -log p(label) in nats, with scores multiplied by ``scale`` plus ``shift``."""
        return float(self.moved(scale, shift).losses().mean())

    def losses(self) -> Float[np.ndarray, " N"]:
        """-log p(label) of each row in nats."""
        return -self.log_p[np.arange(len(self.labels)), self.labels]

    def moved(self, scale: float = 1.0, shift: Float[np.ndarray, " C"] | float = 0.0) -> Scores:
        """The log-probabilities with scores multiplied by ``scale`` and moved by ``shift``."""
        return Scores(log_softmax(self.log_p * scale + shift, axis=1), self.labels)

    def tempered_losses(self) -> Float[np.ndarray, " N"]:
        """The losses at the temperature with the lowest mean, because overconfidence is corrected later."""
        return self.moved(min(TEMPERATURES, key=self.loss)).losses()


class Calibration(NamedTuple):
    """The scale of the scores of each kind before they are added, and the bias of each class."""

    scales: Float[np.ndarray, " kinds"]
    shift: Float[np.ndarray, " C"]

    @classmethod
    def fit(
        cls, kinds: Sequence[Scores], scale_penalty: float = 0.005, shift_penalty: float = 0.5
    ) -> Calibration:
        """The scales and biases with the lowest loss on held-out rows, penalised by how much they change.

        Supervised calibration (arXiv 2505.23783) fits a scale per class too; few rows suffice only for one.

        Args:
            kinds: the scores of the same rows by different classifiers, such as a prompt and a linear probe.
            scale_penalty: on the squared logarithm of each scale, in nats.
            shift_penalty: on the mean squared shift.
        """
        labels, scores = kinds[0].labels, np.stack([kind.log_p for kind in kinds])

        def penalised(x: Float[np.ndarray, " parameters"]) -> float:
            change, shift = np.split(x, [len(kinds)])
            loss = Scores(np.tensordot(np.exp(change), scores, axes=1), labels).loss(shift=shift)
            return loss + scale_penalty * np.sum(change**2) + shift_penalty * np.mean(shift**2)

        start = np.concatenate([np.full(len(kinds), -np.log(len(kinds))), np.zeros(scores.shape[-1])])
        change, shift = np.split(minimize(penalised, start, method="L-BFGS-B").x, [len(kinds)])
        return cls(np.exp(change), shift - shift.mean())


def class_scores(model: Prompted, rows: Sequence[Row], prompts: Sequence[int]) -> Scores:
    """The class scores of rows, each with the prompt of that index."""
    probabilities = choice_probabilities(model, rows, prompts)
    return Scores(np.log(np.maximum(probabilities, TINY)), np.array([row.label for row in rows]))


def text_losses(model: Prompted, rows: Sequence[Row], prompts: Sequence[int]) -> Float[np.ndarray, " N"]:
    """-log p of each row's target in nats with its prompt; their mean is that over all tokens."""
    per_row = sum(len(row.targets) for row in rows) / len(rows)
    return -target_log_p(model, rows, prompts) / per_row
