import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mpt.adaptation.held_out import Calibration, Scales, Scores
from mpt.adaptation.probe import STRENGTH, UNSEEN, Probe
from mpt.adaptation.splits import folds
from mpt.adaptation.weighing import ANY_TASK, Weighing, expected
from mpt.baselines import States
from mpt.types import Row


def states_of(labels):
    """A state of three numbers for each row, which tells its class but for noise."""
    noise = np.random.default_rng(0).normal(size=(len(labels), 3))
    return (5 + noise + 3 * np.eye(3)[labels]).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_is_logistic_regression_on_standardised_states(classes):
    labels = np.arange(30) % classes
    states = states_of(labels)
    found = Probe.fit(states, labels, classes).scores(states)
    scaler = StandardScaler().fit(states)
    known = scaler.transform(states)
    wanted = LogisticRegression(C=STRENGTH, max_iter=2000).fit(known, labels).predict_log_proba(known)
    np.testing.assert_allclose(log_softmax(found, axis=1), wanted, atol=1e-4)


def test_a_class_without_a_row_is_not_answered():
    labels = np.array([0, 2] * 15)
    scores = Probe.fit(states_of(labels), labels, 3).scores(states_of(labels))
    assert (scores[:, 1] == UNSEEN).all() and (scores.argmax(axis=1) == labels).mean() > 0.8
    alone = Probe.fit(states_of(labels), np.full(30, 2), 3).scores(states_of(labels))
    assert (alone.argmax(axis=1) == 2).all()


def scores_that(know: float, rows=200, classes=3, seed=0) -> Scores:
    """Scores that are ``know`` higher for the true class, and noise."""
    labels = np.arange(rows) % classes
    noise = np.random.default_rng(seed).normal(size=(rows, classes))
    return Scores(log_softmax(noise + know * np.eye(classes)[labels], axis=1), labels)


def expecting(*scales, spread=2.0) -> Scales:
    return Scales(np.array(scales), np.full(len(scales), spread))


def test_what_knows_more_weighs_more():
    good, bad = scores_that(2.0), scores_that(0.0, seed=1)
    (first, second), _ = Calibration.fit([good, bad], expecting(0.5, 0.5))
    assert first > 5 * second
    (second, first), _ = Calibration.fit([bad, good], expecting(0.5, 0.5))
    assert first > 5 * second


def test_few_rows_move_scales_less_than_many():
    def scale(rows):
        kinds = [scores_that(0.0, rows), scores_that(2.0, rows, seed=1)]
        return Calibration.fit(kinds, expecting(0.7, 0.05, spread=0.4)).scales[1]

    assert 0.05 < scale(6) < scale(60) / 2 and scale(6000) > 1


def rows_of(labels) -> list[Row]:
    """Rows of these classes, whose only token is their index."""
    return [Row((i,), (0,), label=int(label)) for i, label in enumerate(labels)]


class KnownStates(States):
    """States that no model has to compute."""

    def __init__(self, states):
        self._states = states

    def __call__(self, rows):
        return self._states[[row.inputs[0] for row in rows]]


def test_a_probe_that_is_no_use_beside_an_untrained_prompt_is_expected_to_weigh_little():
    labels = np.arange(60) % 3
    useful, noise = states_of(labels), np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    each = folds(rows_of(labels), 4, seed=0)
    of_held_out = np.array([row.label for fold in each for row in fold.held_out])
    untrained = Scores(np.full((60, 3), -np.log(3)), of_held_out)
    scales = expected(untrained, each, KnownStates(np.stack([useful, noise, noise], axis=1)))
    assert scales.expected[1] > 4 * max(scales.expected[2:]) and scales.spread[1] < ANY_TASK.spread[1]


def test_every_row_is_held_out_once():
    rows = rows_of([0] * 7 + [1] * 2)
    each = folds(rows, 4, seed=0)
    assert sorted(row.inputs[0] for fold in each for row in fold.held_out) == list(range(9))
    assert all(len(fold.learnt) + len(fold.held_out) == 9 for fold in each)
    assert len(folds(rows_of([0, 0, 1, 1]), 4, seed=0)) == 2  # no part is empty


def test_two_that_err_differently_are_better_together():
    kinds = [scores_that(1.0), scores_that(1.0, seed=1)]
    scales, shift = Calibration.fit(kinds, expecting(0.5, 0.5))
    together = Scores(np.tensordot(scales, [kind.log_p for kind in kinds], axes=1), kinds[0].labels)
    alone = [kind.tempered_losses().mean() for kind in kinds]
    assert together.loss(shift=shift) < min(alone) - 0.02


def test_a_class_that_is_scored_too_high_is_moved_down():
    fair = scores_that(1.0)
    _, shift = Calibration.fit([Scores(fair.log_p + np.array([3.0, 0.0, 0.0]), fair.labels)], expecting(1.0))
    assert shift.sum() == pytest.approx(0, abs=1e-6) and shift[0] < -0.2 < 0.1 < min(shift[1:])


def held_out_of(positive):
    """A weighing of two classes whose held-out rows have these log-odds of the second class."""
    scores = Scores(
        log_softmax(np.stack([0 * positive, positive], axis=1), axis=1), (positive > 0).astype(int)
    )
    return Weighing(1.0, np.zeros(2), scores)


def test_each_metric_has_its_own_shift():
    weighing, prior = held_out_of(np.linspace(-2.0, 2.0, 100)), np.log([1.5, 0.5])
    np.testing.assert_allclose(weighing.suited("accuracy", prior).shift, prior)
    np.testing.assert_allclose(weighing.suited("macro_f1", prior).shift, 0)
    shift = weighing.suited("f1", prior).shift
    assert shift[0] == prior[0] and shift[1] > prior[1]  # the positive class is answered more often


def test_answers_for_f1_have_the_highest_f1_that_is_expected():
    log_odds = np.random.default_rng(0).normal(-0.5, 1.0, 4000)
    shift = held_out_of(log_odds).suited("f1", np.zeros(2)).shift
    p = 1 / (1 + np.exp(-log_odds))

    def expected(moved):
        answered = moved > 0
        return 2 * p[answered].sum() / (answered.sum() + p.sum())

    found = expected(log_odds + shift[1] - shift[0])
    assert found == pytest.approx(max(expected(log_odds + x) for x in np.linspace(-3, 3, 601)), abs=1e-4)
    assert found > expected(log_odds) + 0.01
