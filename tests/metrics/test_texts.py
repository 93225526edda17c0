"""Metrics of longer texts, by hand and as the libraries' own functions have them."""

import math

import pytest
import sacrebleu

from mpt.metrics import METRICS, Truth

RIGHT = "the cat sat on the mat"


@pytest.mark.parametrize(
    ("name", "right", "found", "value"),
    [
        # 4/5 of the words, 3/4 of the pairs, 2/3 and 1/2 of the longer runs: their geometric mean.
        ("bleu", [["a b c d f"]], ["a b c d e"], 0.2 ** (1 / 4)),
        # All runs are right, but the text is short.
        ("bleu", [["a b c d e"]], ["a b c d"], math.exp(1 - 5 / 4)),
        # Rows are pooled, and the first one's second reference fits.
        (
            "bleu",
            [["x", "a b c d e"], ["a b c d f"]],
            ["a b c d e", "a b c d e"],
            (9 / 10 * 7 / 8 * 5 / 6 * 3 / 4) ** (1 / 4),
        ),
        # Half of the letters, none of the pairs, both ways.
        ("chrf", [["ac"]], ["ab"], 1 / 4),
        ("chrf", [["ac", "ab"]], ["ab"], 1),
        ("rouge1", [[RIGHT]], ["The cat on a mat."], 2 * 4 / (6 + 5)),
        ("rouge2", [[RIGHT]], ["The cat on a mat."], 2 * 1 / (5 + 4)),
        ("rougeL", [["a b c"]], ["c b a"], 1 / 3),
        ("rouge1", [["a b c"]], ["c b a"], 1),
        ("rouge1", [["x", RIGHT], ["x"]], ["the cat on a mat", "y"], (2 * 4 / (6 + 5) + 0) / 2),
    ],
)
def test_text_metric_by_hand(name, right, found, value):
    truths = [Truth(tuple(texts)) for texts in right]
    assert METRICS[name](truths, found) == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "function"), [("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)]
)
def test_corpus_metrics_are_sacrebleus(name, function):
    found = ["It is a guide to action, that ensures it.", "He read the book because he was interested ."]
    first = ["It is a guide to action that ensures it all.", "He was interested, so he read the book."]
    second = ["It is the guiding principle; it ensures that.", "He read the book as he was interested."]
    truths = [Truth(texts) for texts in zip(first, second)]
    expected = function(found, [first, second]).score / 100
    assert 0 < expected < 1
    assert METRICS[name](truths, found) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge1", "rouge2", "rougeL"])
@pytest.mark.parametrize(("right", "found"), [("", ""), ("", "some words"), ("some words", "")])
def test_empty_texts_score_nothing(name, right, found):
    assert METRICS[name]([Truth((right,))], [found]) == 0
