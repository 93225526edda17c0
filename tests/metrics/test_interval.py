"""Intervals cover as often as they say, and agree with the textbook where there is one."""

import numpy as np
import pytest
from scipy import stats

from mpt.metrics.interval import FOLDS, Estimate, average, estimate, pseudo_values


def test_one_draw_alone_is_students_t():
    """Over seeds, where there is one fold; over folds, where there is one seed."""
    values = np.random.default_rng(0).normal(3.0, 2.0, 12)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    for parts in (values[:, None], values[None]):
        found = estimate(parts.mean(axis=1), parts)
        assert (found.low, found.high) == pytest.approx((low, high))


def test_rows_that_all_seeds_answer_alike_count_once():
    """Ten seeds that say the same of each row know no more of other rows than one of them."""
    rows = np.random.default_rng(0).integers(0, 2, (1, 50)).astype(float)
    one, ten = (estimate(parts.mean(axis=1), parts) for parts in (rows, np.repeat(rows, 10, axis=0)))
    assert ten.half == pytest.approx(one.half)


@pytest.mark.parametrize(
    ("seeds", "of_seeds", "least"), [(2, 0.3, 0.93), (3, 0, 0.93), (3, 1, 0.93), (5, 1, 0.93), (5, 5, 0.92)]
)
def test_interval_covers_as_often_as_it_says(seeds, of_seeds, least):
    """Crossed effects: seeds, rows with a standard error of 1, half of it in what is common to seeds."""
    rng, inside, times = np.random.default_rng(0), 0, 600
    for _ in range(times):
        common, own = rng.normal(size=(2, seeds, FOLDS)) * np.sqrt(FOLDS / 2)
        parts = of_seeds * rng.normal(size=(seeds, 1)) + common[:1] + own
        found = estimate(parts.mean(axis=1), parts)
        inside += found.low <= 0 <= found.high
    assert least <= inside / times <= 0.99


def test_no_error_is_known_of_one_number():
    assert np.isnan(estimate(np.array([0.5]), np.array([[0.5]])).half)


@pytest.mark.parametrize(
    ("seeds", "apart", "is_open"), [(2, 3, True), (2, 0.1, False), (3, 3, False), (1, 0, False)]
)
def test_few_draws_far_apart_are_shown_themselves(seeds, apart, is_open):
    """Student's factor of two draws is 12.7: no interval, where they differ by more than rows explain."""
    rows = np.random.default_rng(0).normal(size=(1, FOLDS))
    parts = rows + apart * np.arange(seeds)[:, None]
    found = estimate(parts.mean(axis=1), parts)
    assert found.is_open == is_open
    assert found.draws == tuple(parts.mean(axis=1))
    both = average([found, found._replace(draws=tuple(draw + 1 for draw in found.draws))])
    assert both.draws == pytest.approx([draw + 0.5 for draw in found.draws])
    assert not both.is_open  # two targets have two degrees of freedom
    assert average([found, found._replace(draws=())]).draws == ()


def test_no_spread_is_no_interval():
    found = estimate(np.ones(3), np.ones((3, 8)))
    assert (found.low, found.high) == (1.0, 1.0)
    assert average([found, found]).half == 0.0


def test_average_of_targets_is_that_of_independent_means():
    parts = [Estimate(0.8, 0.04, 9.0), Estimate(0.6, 0.04, 9.0)]
    assert average(parts)[:3] == pytest.approx((0.7, 0.02, 18.0))


def test_pseudo_values_of_a_mean_are_the_folds_means():
    rows = np.random.default_rng(0).normal(size=4 * FOLDS)
    found = pseudo_values(lambda kept: rows[list(kept)].mean(), range(len(rows)))
    np.testing.assert_allclose(found, rows.reshape(4, FOLDS).mean(axis=0), atol=1e-12)


def test_rows_of_a_group_stay_together():
    left = []
    pseudo_values(lambda kept: left.append(set(range(6)) - set(kept)) or 0.0, ["a", "a", "b", "b", "b", "c"])
    assert left[1:] == [{0, 1}, {2, 3, 4}, {5}]


def test_variance_of_a_metric_that_is_no_mean():
    """Of a correlation, near the one by Fisher: (1 - r²)² / n."""
    x, noise = np.random.default_rng(0).normal(size=(2, 2000))
    y = x + noise
    found = pseudo_values(lambda kept: float(np.corrcoef(x[list(kept)], y[list(kept)])[0, 1]), range(2000))
    expected = (1 - 0.5) ** 2 / 2000
    assert np.var(found, ddof=1) / FOLDS == pytest.approx(expected, rel=0.4)
