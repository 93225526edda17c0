"""Metrics of short answers: the best score against any of the correct texts, averaged over rows."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from mpt.metrics.truth import Metric, Truth
from mpt.metrics.words import spaced

NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def best_of(score: Callable[[str, str], float]) -> Metric:
    """Makes a metric: the mean over rows of the best score(correct text, predicted text)."""

    def metric(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
        pairs = zip(truths, predictions, strict=True)
        return fmean(max(score(text, predicted) for text in truth.texts) for truth, predicted in pairs)

    return metric


def same_words(correct: str, predicted: str) -> bool:
    """Whether two texts are equal up to case and white space.

    >>> same_words("9 apples", "9  Apples")
    True
    """
    return correct.lower().split() == predicted.lower().split()


def content_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles, as in SQuAD v1.1's evaluation.

    Each character of a script without blanks is a word.

    >>> content_words("The U.S. Army, a friend")
    ['us', 'army', 'friend']
    """
    return spaced(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(NO_PUNCTUATION))).split()


def same_content(correct: str, predicted: str) -> bool:
    """Whether two texts are equal up to case, white space, punctuation and articles."""
    return content_words(correct) == content_words(predicted)


def shared_content(correct: str, predicted: str) -> float:
    """F1 of the words of two texts; 0 if one has no words left, as in SQuAD v1.1's evaluation script.

    >>> shared_content("the cat", "a black cat")
    0.6666666666666666
    """
    expected, actual = Counter(content_words(correct)), Counter(content_words(predicted))
    shared = (expected & actual).total()
    return 2 * shared / (expected.total() + actual.total()) if shared else 0.0
