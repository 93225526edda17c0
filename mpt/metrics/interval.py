"""Confidence intervals that account for both random draws: of training examples (seeds) and of test rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

FOLDS = 50  # more folds cost more memory, and would narrow an interval by at most 2 %
NORMAL = 1.959963984540054  # standard errors on both sides of a 95 % interval
LEAST_FREEDOM = 1.9  # of three draws: Student's factor is 4.5; towards one, of two draws, it rises to 12.7
NO_SPREAD = 1e-15  # variances below are what sums of equal numbers leave


class Estimate(NamedTuple):
    """A mean and its error.

    Attributes:
        mean: the estimate.
        variance: the variance of the mean; NaN if there is only one seed and one fold.
        freedom: the degrees of freedom of ``variance``.
        least: the least value that the metric can have; ``most`` is the highest.
        draws: the figure of each draw of examples.
    """

    mean: float
    variance: float
    freedom: float
    least: float = -math.inf
    most: float = math.inf
    draws: tuple[float, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the draws differ, and are too few to say how much others would: their figures say more than
        an interval, which would be several times as wide as they are apart."""
        return len(self.draws) > 1 and self.freedom < LEAST_FREEDOM

    @property
    def half(self) -> float:
        """Half the width of the 95 % confidence interval, by Student's t."""
        from scipy.stats import t

        return float(t.ppf(0.975, self.freedom)) * math.sqrt(self.variance) if self.variance else 0.0

    @property
    def low(self) -> float:
        """The lower end of the 95 % confidence interval; no value is below the least."""
        return max(self.mean - self.half, self.least)

    @property
    def high(self) -> float:
        """The upper end of the 95 % confidence interval; no value is above the highest."""
        return min(self.mean + self.half, self.most)


def pseudo_values(score: Callable[[Sequence[int]], float], groups: Sequence[Hashable]) -> list[float]:
    """Jackknife pseudo-values of a metric: one value per fold of test rows, which act as independent draws.

    The rows are split into G folds. The value of fold g is G·score(all) - (G - 1)·score(all but g), Tukey's
    pseudo-value in the delete-a-group jackknife (Kott, Journal of Official Statistics 17, 2001). For a mean
    over rows it equals the fold's mean; but it works for any metric of a set of rows.

    Args:
        score: the metric as a function of the indices of rows.
        groups: the group of each row; rows of a group are in the same fold.
    """
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    count = min(len(order), FOLDS)
    folds = [order[group] % count for group in groups]
    score_of_all = score(range(len(groups)))
    if count < 2:
        return [score_of_all]
    without = [
        score([row for row, fold in enumerate(folds) if fold != left_out]) for left_out in range(count)
    ]
    return [count * score_of_all - (count - 1) * score_without for score_without in without]


def estimate(scores: Float[np.ndarray, " S"], pseudo: Float[np.ndarray, "S G"]) -> Estimate:
    """The mean over seeds, with an error that accounts for other seeds *and* other test rows.

    All S seeds are scored on the same rows, so that seeds and the G folds of rows are crossed random effects.
    With the mean squares A of seeds, B of folds and E of the residuals, (A + B - E) / (S·G) is an unbiased
    estimate of the variance of the mean, as in studies with several readers and cases (Dorfman, Berbaum and
    Metz, Investigative Radiology 27, 1992). It is bounded below by what each draw alone gives, A/(S·G) and
    B/(S·G). The degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946). With one seed or one
    fold, only the other draw counts.

    Args:
        scores: the score of each seed.
        pseudo: the pseudo-values of each seed, from ``pseudo_values``.
    """
    seeds, folds = pseudo.shape
    mean, by_seed, by_fold = pseudo.mean(), pseudo.mean(axis=1), pseudo.mean(axis=0)
    residuals = pseudo - by_seed[:, None] - by_fold + mean
    a = folds * by_seed.var(ddof=1) if seeds > 1 else 0.0
    b = seeds * by_fold.var(ddof=1) if folds > 1 else 0.0
    e = (residuals**2).sum() / ((seeds - 1) * (folds - 1)) if seeds > 1 < folds else 0.0
    square = max(a + b - e, a, b)
    if seeds == folds == 1:
        square = math.nan
    spread = a**2 / max(seeds - 1, 1) + b**2 / max(folds - 1, 1)
    freedom = square**2 / spread if spread else math.inf
    mean, draws = float(np.mean(scores)), tuple(map(float, scores))
    return Estimate(mean, float(square / pseudo.size), float(freedom), draws=draws)


def floored(found: Estimate, rows: int) -> Estimate:
    """An estimate whose draws do not differ, with the width of Wilson's interval (JASA 22, 1927).

    Where all of 21 rows are right, or two methods answer each alike, other rows can still be otherwise.

    Args:
        found: of a metric whose highest value is finite.
        rows: the scored rows.

    >>> round(floored(Estimate(1.0, 0.0, 20.0, 0.0, 1.0), 21).low, 3)
    0.845
    """
    if not found.variance < NO_SPREAD:
        return found
    share, z2 = min(abs(found.mean) / found.most, 1.0), NORMAL**2
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    around = NORMAL / (1 + z2 / rows) * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    longer = found.most * (around + abs(middle - share))
    return found._replace(variance=(longer / NORMAL) ** 2, freedom=math.inf)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, such as those of several fixed tasks; draw by draw, if they have
    equally many."""
    count = len(estimates)
    variances = [one.variance / count**2 for one in estimates]
    spread = sum(v**2 / one.freedom for v, one in zip(variances, estimates))
    freedom = sum(variances) ** 2 / spread if spread else math.inf
    mean, least, most = (
        sum(getattr(one, name) for one in estimates) / count for name in ("mean", "least", "most")
    )
    draws = [one.draws for one in estimates]
    alike = len(set(map(len, draws))) == 1
    of_draws = tuple(sum(each) / count for each in zip(*draws)) if alike else ()
    return Estimate(mean, sum(variances), freedom, least, most, of_draws)
