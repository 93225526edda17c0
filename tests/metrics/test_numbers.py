"""Correlations of numbers written as text."""

import pytest
from scipy.stats import pearsonr, spearmanr

from mpt.errors import UserError
from mpt.metrics import METRICS, Truth

TARGETS = ["0.0", "1.6", "2.4", "5.0"]


def correlation(name: str, targets, predictions) -> float:
    return METRICS[name]([Truth((text,)) for text in targets], predictions)


def test_correlations_by_hand():
    """Deviations -1, 0, 1 and -1, -1, 2: 3 / √(2 · 6). Ranks 1, 2, 3 and 1.5, 1.5, 3: 1.5 / √(2 · 1.5)."""
    assert correlation("pearson", ["1", "2", "3"], ["1", "1", "4"]) == pytest.approx(3 / 12**0.5)
    assert correlation("spearman", ["1", "2", "3"], ["1", "1", "4"]) == pytest.approx(1.5 / 3**0.5)


@pytest.mark.parametrize(("name", "reference"), [("pearson", pearsonr), ("spearman", spearmanr)])
@pytest.mark.parametrize("text", ["", "five", "nan", "inf", "-inf"])
def test_what_is_no_number_counts_as_minus_one(name, reference, text):
    """T5's ``string_to_float`` has -1.0 for it."""
    expected = reference([0.0, 1.6, 2.4, 5.0], [0.2, 3.0, 2.0, -1.0]).statistic
    found = correlation(name, TARGETS, ["0.2", "3.0", " 2.0\n", text])
    assert found == pytest.approx(expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize(
    ("targets", "predictions"),
    [
        (["1.0", "2.0"], ["3", "3.0"]),
        (["1.0", "1.0"], ["3", "4"]),
        (["1.0", "2.0"], ["a", "b"]),
        (["1.0"], ["1.0"]),
    ],
    ids=["predictions alike", "targets alike", "no numbers", "one row"],
)
def test_undefined_correlation_is_none(name, targets, predictions):
    assert correlation(name, targets, predictions) == 0


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_to_correlate_pass_silently():
    assert correlation("pearson", ["1", "2", "3"], ["1.7e308", "1.7e308", "2"]) == 0


def test_targets_must_be_numbers():
    with pytest.raises(UserError, match=r"need numbers as targets; 'yes' is none"):
        correlation("pearson", ["1", "yes"], ["1", "2"])
