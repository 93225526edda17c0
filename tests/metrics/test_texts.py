"""Metrics of longer texts, by hand and as the libraries' own functions have them."""

import math

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from mpt.metrics import METRICS, Truth
from mpt.metrics.words import words

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


SCRIPTS = {
    "Chinese": "今天天气很好，我们去公园散步。",
    "Japanese": "今日はとても天気がいいです。",
    "Korean": "오늘은 날씨가 아주 좋습니다 정말로.",
    "Thai": "วันนี้อากาศดีมาก",
    "Arabic": "الطقس جميل جدا اليوم في المدينة.",
    "Hebrew": "מזג האוויר יפה מאוד היום.",
    "Russian": "Сегодня очень хорошая погода.",
    "Greek": "Ο καιρός είναι πολύ καλός σήμερα.",
    "Hindi": "आज मौसम बहुत अच्छा है।",
    "Amharic": "ዛሬ የአየር ሁኔታው በጣም ጥሩ ነው።",
    "English": "The weather is very good today.",
    "accents": "Où est l\u2019été\u00a0? Ça\u0301 \u00fcber straße.",
    "a word": "hello",
    "two words": "привет мир",
}
ALL = ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "squad_f1", "squad_em", "record_f1", "exact_match"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("script", SCRIPTS)
def test_text_against_itself_is_all_right_in_every_script(name, script):
    text = SCRIPTS[script]
    has_pairs = script != "a word" or name != "rouge2"
    assert METRICS[name]([Truth((text,))], [text]) == pytest.approx(1 if has_pairs else 0)


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_english_are_those_of_the_original_rouge(text):
    assert words(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge1", "rouge2", "rougeL", "squad_f1"])
@pytest.mark.parametrize("script", [script for script in SCRIPTS if "word" not in script])
def test_half_a_text_is_half_right_in_every_script(name, script):
    text = SCRIPTS[script]
    words = text.split()
    half = " ".join(words[:-1]) if len(words) > 3 else text[: len(text) // 2]
    other = SCRIPTS["Russian" if script != "Russian" else "Hindi"]
    none, some = (METRICS[name]([Truth((text,))], [found]) for found in (other, half))
    assert none < 0.1 < 0.2 < some < 0.95


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge1", "rouge2", "rougeL"])
@pytest.mark.parametrize(("right", "found"), [("", ""), ("", "some words"), ("some words", "")])
def test_empty_texts_score_nothing(name, right, found):
    assert METRICS[name]([Truth((right,))], [found]) == 0
