"""Metrics of predictions."""

import pytest

from mpt.metrics import METRICS

TARGETS = ["a", "a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "predictions", "value"),
    [
        ("accuracy", ["a", "b", "b", "c"], 3 / 4),
        ("macro_f1", ["a", "b", "b", "c"], (2 / 3 + 2 / 3 + 1) / 3),
        ("macro_f1", ["a", "a", "a", "a"], (2 / 3 + 0 + 0) / 3),
        ("matthews", ["a", "a", "b", "c"], 1.0),
        ("matthews", ["a", "a", "a", "a"], 0.0),
    ],
)
def test_metric_by_hand(name, predictions, value):
    assert METRICS[name](TARGETS, predictions) == pytest.approx(value)
