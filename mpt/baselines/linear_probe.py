"""A linear probe: logistic regression on the frozen model's hidden states (Alain & Bengio, 2016)."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mpt.baselines.record import Baseline, Problem, fitted_answers
from mpt.inference.evaluate import Answers

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # scikit-learn's C: the inverse of the regularisation
POOLINGS = {"mean": [1], "last": [2], "both": [1, 2]}  # which of a row's states are its features
FOLDS = 5


def answer(problem: Problem) -> Answers:
    """Logistic regression on the states of a text: their mean, that of the last token, or both.

    Which of them, and how strongly it is regularised, is what does best in a stratified cross-validation
    on the drawn rows, and no others.
    """
    states = problem.states(problem.train.rows)
    pooling, strength = best_of(states, problem.train.classes)
    asked = problem.states(problem.asked.rows)
    return fitted_answers(probe(strength), features(states, pooling), features(asked, pooling), problem)


def features(states: Float[np.ndarray, "R 3 D"], pooling: str) -> Float[np.ndarray, "R F"]:
    """The chosen states of each row, end to end."""
    return states[:, POOLINGS[pooling]].reshape(len(states), -1)


def probe(strength: float) -> Any:
    """The classifier: each number is standardised over the rows that it is fitted to."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def best_of(states: Float[np.ndarray, "R 3 D"], classes: Int[np.ndarray, " R"]) -> tuple[str, float]:
    """The pooling and the strength of the highest accuracy in cross-validation; of equals the first.

    Where a class has a single row, nothing can be held out: it is the mean, strongly regularised.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    _, counts = np.unique(classes, return_counts=True)
    if len(counts) == 1 or counts.min() < 2:
        return "mean", STRENGTHS[1]
    folds = StratifiedKFold(min(FOLDS, counts.min()), shuffle=True, random_state=0)

    def accuracy(choice: tuple[str, float]) -> float:
        pooling, strength = choice
        return float(cross_val_score(probe(strength), features(states, pooling), classes, cv=folds).mean())

    return max(product(POOLINGS, STRENGTHS), key=accuracy)


LINEAR_PROBE = Baseline("linear probe", answer, "no prompt, but the model's hidden states")
