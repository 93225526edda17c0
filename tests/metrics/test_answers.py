"""Metrics of short answers; the rules are those of SQuAD v1.1's evaluation script.

Lower case, without ASCII punctuation (not replaced by a space), without a, an, the as whole words, white
space made one; exact match compares what is left, F1 its bag of words; the best of the right texts counts.
"""

import pytest

from mpt.metrics import METRICS, Truth


@pytest.mark.parametrize("benchmark", ["squad", "record"])
@pytest.mark.parametrize(
    ("right", "found", "exact", "f1"),
    [
        (["Denver Broncos"], "the  denver broncos.", 1, 1),
        (["Denver Broncos"], "Broncos", 0, 2 / 3),
        (["Denver Broncos", "Broncos", "The Broncos"], "Broncos", 1, 1),
        (["U.S.", "x"], "us", 1, 1),
        (["twenty-one"], "twenty one", 0, 0),
        (["theatre"], "a theatre", 1, 1),
        (["on and on"], "on on on", 0, 2 / 3),  # two of three, both ways
        (["’tis"], "tis", 0, 0),
        (["a b c d"], "b b", 0, 2 / 5),  # one of three and one of two
        (["Denver"], "", 0, 0),
        (["The"], "a", 1, 0),
    ],
)
def test_answers_by_hand(benchmark, right, found, exact, f1):
    truths = [Truth(tuple(right))]
    assert METRICS[f"{benchmark}_em"](truths, [found]) == exact
    assert METRICS[f"{benchmark}_f1"](truths, [found]) == pytest.approx(f1)


def test_answers_count_alike():
    truths = [Truth(("one", "1")), Truth(("two words",)), Truth(("three",))]
    found = ["1", "words", "four"]
    assert METRICS["squad_em"](truths, found) == pytest.approx(1 / 3)
    assert METRICS["squad_f1"](truths, found) == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_exact_match_overlooks_case_and_white_space_only():
    truths = [Truth(("9 apples", "nine")), Truth(("3",)), Truth(("the end",)), Truth(("",))]
    assert METRICS["exact_match"](truths, ["9  Apples", "4", "end", " "]) == 2 / 4
