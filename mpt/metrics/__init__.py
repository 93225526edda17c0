"""Metrics of predictions, by name. The libraries that compute them are imported when they are first used."""

from __future__ import annotations

from mpt.metrics.answers import best_of, same_content, same_words, shared_content
from mpt.metrics.classes import accuracy, f1, macro_f1, matthews, questions_right
from mpt.metrics.figures import benchmark_average, standard_error
from mpt.metrics.numbers import pearson, spearman
from mpt.metrics.texts import bleu, chrf, rouge
from mpt.metrics.truth import Metric, Truth

__all__ = ["LEAST", "METRICS", "NEEDS", "Metric", "Truth", "benchmark_average", "standard_error"]

# The least value of a metric, where it is not 0; the most is 1.
LEAST: dict[str, float] = dict.fromkeys(("matthews", "pearson", "spearman"), -1.0)

METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "exact_match": best_of(same_words),
    "squad_em": best_of(same_content),
    "squad_f1": best_of(shared_content),
    # Each row is an answer option, and its group is the question.
    "multirc_em": questions_right,
    "multirc_f1": f1,
    # Each row is a query, and its correct texts are all mentions of the entity. The rules are SQuAD's.
    "record_em": best_of(same_content),
    "record_f1": best_of(shared_content),
    "bleu": bleu,
    "chrf": chrf,
    "rouge1": rouge("rouge1"),
    "rouge2": rouge("rouge2"),
    "rougeL": rouge("rougeL"),
}

# The attribute of ``Task`` that a metric needs.
NEEDS = {"f1": "verbalizer", "multirc_em": "group", "multirc_f1": "verbalizer"}
