import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mpt.adaptation.held_out import Calibration, Scores
from mpt.adaptation.probe import STRENGTH, UNSEEN, Probe


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


def test_what_knows_more_weighs_more():
    good, bad = scores_that(2.0), scores_that(0.0, seed=1)
    (first, second), _ = Calibration.fit([good, bad])
    assert first > 5 * second
    (second, first), _ = Calibration.fit([bad, good])
    assert first > 5 * second


def test_two_that_err_differently_are_better_together():
    kinds = [scores_that(1.0), scores_that(1.0, seed=1)]
    scales, shift = Calibration.fit(kinds)
    together = Scores(np.tensordot(scales, [kind.log_p for kind in kinds], axes=1), kinds[0].labels)
    alone = [kind.tempered_loss() for kind in kinds]
    assert together.loss(shift=shift) < min(alone) - 0.02


def test_a_class_that_is_scored_too_high_is_moved_down():
    fair = scores_that(1.0)
    _, shift = Calibration.fit([Scores(fair.log_p + np.array([3.0, 0.0, 0.0]), fair.labels)])
    assert shift.sum() == pytest.approx(0, abs=1e-6) and shift[0] < -0.2 < 0.1 < min(shift[1:])
