"""Intervals that cover both draws: of training examples (seeds) and of test rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

FOLDS = 50  # more would widen the score's matrix, and narrow an interval by 2 % at most


class Estimate(NamedTuple):
    """A mean, and what is known of its error.

    Attributes:
        variance: of the mean; NaN where one seed and one fold cannot tell it.
        freedom: degrees of freedom of ``variance``.
    """

    mean: float
    variance: float
    freedom: float

    @property
    def half(self) -> float:
        """Half of the 95 % interval, by Student's t."""
        from scipy.stats import t

        return float(t.ppf(0.975, self.freedom)) * math.sqrt(self.variance) if self.variance else 0.0

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


def pseudo_values(score: Callable[[Sequence[int]], float], groups: Sequence[Hashable]) -> list[float]:
    """A metric of test rows, taken apart into shares that behave like independent draws.

    Rows are dealt to G folds; fold g's value is G·score(all) - (G - 1)·score(all but g), Tukey's
    pseudo-value in the delete-a-group jackknife (Kott, Journal of Official Statistics 17, 2001). For a
    mean over rows it is the fold's own mean; it serves any metric of sets of rows as well.

    Args:
        score: the metric of the rows at some places.
        groups: each row's group; rows of one group stay in one fold.
    """
    order = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    count = min(len(order), FOLDS)
    folds = [order[group] % count for group in groups]
    whole = score(range(len(groups)))
    if count < 2:
        return [whole]
    parts = [score([row for row, fold in enumerate(folds) if fold != left]) for left in range(count)]
    return [count * whole - (count - 1) * part for part in parts]


def estimate(scores: Float[np.ndarray, " S"], parts: Float[np.ndarray, "S G"]) -> Estimate:
    """The mean over seeds, with an error for other seeds *and* other test rows.

    All S seeds are scored on the same rows, so seeds and G folds of rows are crossed random effects.
    With the mean squares A of seeds, B of folds and E of what is left, (A + B - E) / (S·G) estimates
    the variance of the mean, without bias; as in studies with several readers and cases (Dorfman,
    Berbaum and Metz, Investigative Radiology 27, 1992), on pseudo-values. It is taken to be no less than
    either draw alone gives, A/(S·G) or B/(S·G). The degrees of freedom are Satterthwaite's (Biometrics
    Bulletin 2, 1946). One seed or one fold leaves the other draw alone.
    """
    seeds, folds = parts.shape
    mean, by_seed, by_fold = parts.mean(), parts.mean(axis=1), parts.mean(axis=0)
    left = parts - by_seed[:, None] - by_fold + mean
    a = folds * by_seed.var(ddof=1) if seeds > 1 else 0.0
    b = seeds * by_fold.var(ddof=1) if folds > 1 else 0.0
    e = (left**2).sum() / ((seeds - 1) * (folds - 1)) if seeds > 1 < folds else 0.0
    square = max(a + b - e, a, b)
    if seeds == folds == 1:
        square = math.nan
    spread = a**2 / max(seeds - 1, 1) + b**2 / max(folds - 1, 1)
    freedom = square**2 / spread if spread else math.inf
    return Estimate(float(np.mean(scores)), float(square / parts.size), float(freedom))


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, such as of several tasks, which themselves are not drawn."""
    count = len(estimates)
    variances = [found.variance / count**2 for found in estimates]
    spread = sum(v**2 / found.freedom for v, found in zip(variances, estimates))
    freedom = sum(variances) ** 2 / spread if spread else math.inf
    return Estimate(sum(found.mean for found in estimates) / count, sum(variances), freedom)
