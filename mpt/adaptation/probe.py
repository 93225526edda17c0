"""A linear probe, whose scores are added to a prompt's class scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mpt.baselines.linear_probe import probe

STRENGTH = 0.01  # scikit-learn's C: the inverse of the regularisation
UNSEEN = -20.0  # the score of a class without training rows


class Probe(NamedTuple):
    """Score of class c: q·w_c + b_c, with a hidden state q of a text."""

    weight: Float[np.ndarray, "C D"]
    bias: Float[np.ndarray, " C"]

    @classmethod
    def fit(cls, states: Float[np.ndarray, "R D"], labels: Int[np.ndarray, " R"], count: int) -> Probe:
        """Logistic regression on the states of rows of ``count`` classes; some classes may have no row."""
        weight, bias = np.zeros((count, states.shape[1])), np.full(count, UNSEEN)
        seen = np.unique(labels)
        if len(seen) == 1:
            bias[seen] = 0.0
        else:
            weight[seen], bias[seen] = _in_units_of_states(probe(STRENGTH).fit(states, labels))
        return cls(weight, bias)

    def scores(self, states: Float[np.ndarray, "R D"]) -> Float[np.ndarray, "R C"]:
        """The score of each class of each row."""
        return states @ self.weight.T + self.bias


def _in_units_of_states(fitted: Any) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, " C"]]:
    """The weights and biases of a fitted probe for states that are not standardised."""
    scaler, regression = fitted
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # for two classes, the second's score minus the first's is given
        weight, bias = np.concatenate([0 * weight, weight]), np.array([0.0, bias[0]])
    weight = weight / scaler.scale_
    return weight, bias - weight @ scaler.mean_
