"""Metrics of longer texts, against one or several references."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from statistics import fmean
from typing import Any, Literal

from mpt.metrics.truth import Metric, Truth


def bleu(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """BLEU (Papineni et al., 2002) of all rows together: 1 to 4 words, sacrebleu's "13a" tokens, cased."""
    from sacrebleu.metrics import BLEU

    return of_corpus(BLEU(force=True), truths, predictions)  # "force" silences advice to detokenise


def chrf(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """chrF2 (Popović, 2015) of all rows together: 1 to 6 characters, recall twice as important."""
    from sacrebleu.metrics import CHRF

    return of_corpus(CHRF(), truths, predictions)


def of_corpus(metric: Any, truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """A metric of sacrebleu's. It wants all first references, all second ones, …; a row may lack some."""
    references = list(zip_longest(*(truth.texts for truth in truths)))
    return metric.corpus_score(predictions, references).score / 100


def rouge(kind: Literal["rouge1", "rouge2", "rougeL"]) -> Metric:
    """ROUGE (Lin, 2004): F1 of words, of pairs, or of the longest common subsequence.

    It is the mean over rows of the best reference's. Words are runs of a-z and 0-9 in lower case, as in
    the original script, and are not stemmed.
    """

    def metric(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([kind])
        pairs = zip(truths, predictions, strict=True)
        return fmean(scorer.score_multi(truth.texts, found)[kind].fmeasure for truth, found in pairs)

    return metric
