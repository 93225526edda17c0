"""Metrics of short answers: the best score that any of the right ones gives, on average over rows."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from mpt.metrics.truth import Metric, Truth

NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def best_of(score: Callable[[str, str], float]) -> Metric:
    """The metric that a score of (right text, predicted text) makes."""

    def metric(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
        pairs = zip(truths, predictions, strict=True)
        return fmean(max(score(text, found) for text in truth.texts) for truth, found in pairs)

    return metric


def same_words(right: str, found: str) -> bool:
    """Alike but for case and white space.

    >>> same_words("9 apples", "9  Apples")
    True
    """
    return right.lower().split() == found.lower().split()


def content_words(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles, as SQuAD v1.1's evaluation script has them.

    >>> content_words("The U.S. Army, a friend")
    ['us', 'army', 'friend']
    """
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(NO_PUNCTUATION)).split()


def same_content(right: str, found: str) -> bool:
    return content_words(right) == content_words(found)


def shared_content(right: str, found: str) -> float:
    """F1 of the words found; 0 where no word is left, as in SQuAD v1.1's evaluation script.

    >>> shared_content("the cat", "a black cat")
    0.6666666666666666
    """
    wanted, got = Counter(content_words(right)), Counter(content_words(found))
    shared = (wanted & got).total()
    return 2 * shared / (wanted.total() + got.total()) if shared else 0.0
