"""Metrics of class words, by hand."""

import pytest

from mpt.metrics import METRICS, Truth

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
    truths = [Truth((target,)) for target in TARGETS]
    assert METRICS[name](truths, predictions) == pytest.approx(value)


@pytest.mark.parametrize(("choices", "value"), [(("no", "yes"), 2 / 3), (("yes", "no"), 4 / 5)])
def test_f1_is_of_the_last_choice(choices, value):
    """yes: precision 1, recall 1/2; no: precision 2/3, recall 1."""
    truths = [Truth((word,), "", choices) for word in ("yes", "yes", "no", "no")]
    assert METRICS["f1"](truths, ["yes", "no", "no", "no"]) == pytest.approx(value)


@pytest.mark.parametrize(("found", "value"), [("no", 0.0), ("yes", 0.0)])
def test_f1_without_a_positive_row_is_none(found, value):
    assert METRICS["f1"]([Truth(("no",), "", ("no", "yes"))], [found]) == value


def test_macro_f1_leaves_out_a_class_of_which_there_is_no_row():
    truths = [Truth((word,), "", ("a", "b", "c")) for word in "ab"]
    assert METRICS["macro_f1"](truths, ["a", "b"]) == 1


@pytest.mark.parametrize("rows", [1, 3])
def test_matthews_of_one_class_is_none(rows):
    assert METRICS["matthews"]([Truth(("a",))] * rows, ["a"] * rows) == 0


def test_multirc_by_hand():
    """Rows are (question, right, found); questions q1 and q3 are right as a whole, whatever the order."""
    rows = [
        ("q1", "yes", "yes"),
        ("q2", "no", "yes"),
        ("q3", "no", "no"),
        ("q1", "no", "no"),
        ("q2", "yes", "yes"),
        ("q2", "yes", "no"),
    ]
    truths = [Truth((right,), question, ("no", "yes")) for question, right, _ in rows]
    found = [found for _, _, found in rows]
    assert METRICS["multirc_em"](truths, found) == pytest.approx(2 / 3)
    # Two of the three rows said to be "yes" are, and two of the three that are "yes" were found.
    assert METRICS["multirc_f1"](truths, found) == pytest.approx(2 / 3)
