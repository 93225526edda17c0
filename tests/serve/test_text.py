"""What tokens' text is, looked at once or while it grows; tokens are single characters or pieces here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.inference.token_scores import TokenScores
from mpt.serve.text import GeneratedText, TextSampling, text_of, tokens_of

PIECES = [" ", "a", "b", "ab", "a b", "\n", "#", "##", "ba ", "<end>"]
END = PIECES.index("<end>")
SAMPLING = TextSampling(0.0, 1.0, 0, 12, ends=(END,))


def decode(ids) -> str:
    return "".join(PIECES[token] for token in ids)


def ids_of(*pieces: str) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def grown(ids, sampling, words, looks=()) -> list[GeneratedText]:
    """What each look sees; the last one sees all tokens."""
    seen = []
    for length in [*sorted({look for look in looks if look < len(ids)}), len(ids)]:
        seen.append(text_of(ids[:length], length == len(ids), sampling, words, 3, decode))
        if not seen[-1].more:
            break
    return seen


texts = st.lists(st.integers(0, len(PIECES) - 1), max_size=12)
stops = st.lists(st.sampled_from(["#", "ab", "a#", "###", "\n\n", "b a"]), max_size=3).map(tuple)
words = st.sampled_from([(), ("a", "b"), ("a", "ab", "b"), ("a b", "a"), ("ba a",)])


@given(texts, stops, words, st.lists(st.integers(1, 11), max_size=6))
def test_a_text_is_the_same_however_often_it_is_looked_at(ids, stop, words, looks):
    sampling = SAMPLING._replace(stop=stop)
    seen = grown(ids, sampling, words, looks)
    (whole,) = grown(ids, sampling, words)
    assert seen[-1] == whole
    assert not whole.more
    for earlier, later in itertools.pairwise(seen):
        assert later.text.startswith(earlier.text)
        assert earlier.more
    assert not any(word in whole.text for word in stop) or whole.text.strip() in words
    assert "<end>" not in whole.text


@pytest.mark.parametrize(
    "pieces, stop, words, text, written, ended",
    [
        (["a", "<end>", "b"], (), (), "a", 1, True),
        (["a", "#", "#", "b"], ("##",), (), "a", 3, True),
        (["a", "##", "b"], ("#",), (), "a", 2, True),
        ([" ", "a", " ", "b"], (), ("a", "b"), " a", 2, True),
        (["a", " ", "b", "b"], (), ("a", "a b"), "a b", 3, True),
        (["a", " ", "#", "b"], (), ("a", "a b"), "a", 1, True),
        (["#", "a"], (), ("a",), "#a", 2, True),
        (["a"] * 12, (), (), "a" * 12, 12, False),
    ],
)
def test_a_text_ends_where_it_should(pieces, stop, words, text, written, ended):
    sampling = SAMPLING._replace(stop=stop)
    for looks in ((), range(1, len(pieces))):
        answer = grown(ids_of(*pieces), sampling, words, looks)[-1]
        assert (answer.text, answer.tokens_written, answer.ended) == (text, written, ended)


def test_nothing_is_told_too_early():
    """Neither the beginning of a stop text, nor blanks at the end, nor what may become another class word."""
    first = text_of(ids_of("b", " "), False, SAMPLING, (), 0, decode)
    assert (first.text, first.more) == ("b", True)
    first = text_of(ids_of("b", "#"), False, SAMPLING._replace(stop=("#a",)), (), 0, decode)
    assert (first.text, first.more) == ("b", True)
    first = text_of(ids_of("a"), False, SAMPLING, ("a", "a b"), 0, decode)
    assert (first.text, first.more) == ("", True)


def test_a_class_word_that_begins_no_other_ends_a_text_at_once():
    first = text_of(ids_of("a"), False, SAMPLING, ("a", "b"), 0, decode)
    assert (first.text, first.more) == ("a", False)


@given(texts, st.integers(0, 3))
def test_the_tokens_of_a_text_are_its_own(ids, likeliest):
    n = len(ids)
    ranked = np.tile(np.arange(4, dtype=np.int32), (n, 1))
    scores = TokenScores(-np.arange(n, dtype=np.float32), ranked, -ranked.astype(np.float32))
    seen, known = grown(ids, SAMPLING, (), range(1, n)), ()
    for answer in seen:
        found = tokens_of(answer, ids, scores, likeliest, known, decode)
        assert found[: len(known)] == known
        assert found == tokens_of(answer, ids, scores, likeliest, (), decode)
        known = found
    text = seen[-1].text
    assert "".join(token.text for token in known)[: len(text)] == text
    for place, token in enumerate(known):
        assert text[token.start :].startswith(token.text[: len(text) - token.start])
        assert token.score == -place
        assert token.likeliest == tuple((PIECES[i], -float(i)) for i in range(likeliest))
