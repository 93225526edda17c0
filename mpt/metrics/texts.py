"""Metrics of longer texts, against one or several references."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from statistics import fmean
from typing import Any, Literal

from mpt.metrics.truth import Metric, Truth
from mpt.metrics.words import spaced, words


def bleu(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """Corpus BLEU (Papineni et al., 2002): 1 to 4 words, sacrebleu's "13a" tokens, case-sensitive.

    Each character of a script without blanks is a word. Where all predictions are shorter than 4 words,
    longer runs do not count.
    """
    from sacrebleu.metrics import BLEU

    metric = BLEU(force=True, effective_order=True)  # "force" silences advice to detokenise
    truths = [truth._replace(texts=tuple(map(spaced, truth.texts))) for truth in truths]
    return of_corpus(metric, truths, [*map(spaced, predictions)])


def chrf(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """Corpus chrF2 (Popović, 2015): 1 to 6 characters, with recall twice as important as precision."""
    from sacrebleu.metrics import CHRF

    return of_corpus(CHRF(), truths, predictions)


def of_corpus(metric: Any, truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """Computes a corpus metric of sacrebleu, which takes all first references, all second ones, and so on."""
    references = list(zip_longest(*(truth.texts for truth in truths)))
    return metric.corpus_score(predictions, references).score / 100


def rouge(kind: Literal["rouge1", "rouge2", "rougeL"]) -> Metric:
    """ROUGE (Lin, 2004): F1 of words, of pairs of words, or of the longest common subsequence.

    It is the mean over rows of the F1 with the best reference. Words are those of ``words``, in English as
    in the original script, and are not stemmed.
    """

    def metric(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([kind], tokenizer=_Words())
        pairs = zip(truths, predictions, strict=True)
        return fmean(scorer.score_multi(truth.texts, text)[kind].fmeasure for truth, text in pairs)

    return metric


class _Words:
    """What ``rouge_score`` asks for words."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
