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


class Scales(NamedTuple):
    """What scales to expect of kinds of scores before rows are seen: independent log-normal distributions.

    Attributes:
        expected: the median of each kind's scale.
        spread: the standard deviation of each scale's natural logarithm.
    """

    expected: Float[np.ndarray, " kinds"]
    spread: Float[np.ndarray, " kinds"]

    def first(self, count: int) -> Scales:
        """Those of the first kinds alone."""
        return Scales(self.expected[:count], self.spread[:count])


class Calibration(NamedTuple):
    """The scale of the scores of each kind before they are added, and the bias of each class."""

    scales: Float[np.ndarray, " kinds"]
    shift: Float[np.ndarray, " C"]

    @classmethod
    def fit(cls, kinds: Sequence[Scores], before: Scales, shift_penalty: float = 0.5) -> Calibration:
        """The most probable scales, given rows and what was expected before, with penalised biases.

        Supervised calibration (arXiv 2505.23783) fits a scale per class too; few rows suffice only for one.

        Args:
            kinds: the scores of the same rows by different classifiers, such as a prompt and a linear probe.
            shift_penalty: on the mean squared bias, in nats.
        """
        labels, scores = kinds[0].labels, np.stack([kind.log_p for kind in kinds])
        expected = np.log(before.expected)

        def penalised(x: Float[np.ndarray, " parameters"]) -> float:
            log_scales, shift = np.split(x, [len(kinds)])
            loss = Scores(np.tensordot(np.exp(log_scales), scores, axes=1), labels).loss(shift=shift)
            surprise = np.sum(((log_scales - expected) / before.spread) ** 2) / 2
            return float(loss + surprise / len(labels) + shift_penalty * np.mean(shift**2))

        start = np.concatenate([expected, np.zeros(scores.shape[-1])])
        log_scales, shift = np.split(minimize(penalised, start, method="L-BFGS-B").x, [len(kinds)])
        return cls(np.exp(log_scales), shift - shift.mean())


def class_scores(model: Prompted, rows: Sequence[Row], prompts: Sequence[int]) -> Scores:
    """The class scores of rows, each with the prompt of that index."""
    probabilities = choice_probabilities(model, rows, prompts)
    return Scores(np.log(np.maximum(probabilities, TINY)), np.array([row.label for row in rows]))


def text_losses(model: Prompted, rows: Sequence[Row], prompts: Sequence[int]) -> Float[np.ndarray, " N"]:
    """-log p of each row's target in nats with its prompt; their mean is that over all tokens."""
    per_row = sum(len(row.targets) for row in rows) / len(rows)
    return -target_log_p(model, rows, prompts) / per_row
