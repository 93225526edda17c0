"""Counting words: logistic regression on the words and word pairs of a text, without a language model."""

from __future__ import annotations

from collections.abc import Sequence

from mpt.baselines.record import Baseline, Problem, fitted_answers
from mpt.data.task import Example
from mpt.inference.evaluate import Answers


def answer(problem: Problem) -> Answers:
    """Logistic regression on TF-IDF (Salton & Buckley, 1988), fitted to the drawn rows.

    Words and word pairs are weighted by 1 + log(count), and regularisation is weak (C = 10), since few rows
    have many words. Where no drawn row has a word of two letters or more, characters stand for words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1)
    train, asked = texts(problem.train.examples), texts(problem.asked.examples)
    try:
        known = words.fit_transform(train)
    except ValueError:  # an empty vocabulary
        words = TfidfVectorizer(analyzer="char")
        known = words.fit_transform([f"{text}." for text in train])
    return fitted_answers(LogisticRegression(C=10, max_iter=2000), known, words.transform(asked), problem)


def texts(examples: Sequence[Example]) -> list[str]:
    """Each example's fields, a line each, without the words of the template."""
    return ["\n".join(example.fields.values()) for example in examples]


COUNTING_WORDS = Baseline("counting words", answer, "no language model")
