"""GLUE (Wang et al., 2019). Inputs and class words are T5's (Raffel et al., 2020, appendix D).

T5 names the fields in alphabetical order: a premise comes after its hypothesis. The templates "plain"
are for models that were not trained on T5's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mpt.data.sources import Tfds
from mpt.data.task import Task
from mpt.tasks import Row, Rows, large, small

NLI = ("entailment", "neutral", "contradiction")
PLAIN_PAIR = "{sentence1}\n{sentence2}\n"


def glue(
    name: str,
    fields: str,
    words: tuple[str, ...],
    splits: Mapping[str, str],
    plain: str,
    unfold: Callable[[Row], Rows] | None = None,
    **rest: Any,
) -> Task:
    """Its labels are said as TFDS names them."""
    return Task(
        name=f"glue_{name}",
        source=Tfds(f"glue/{name}", splits, unfold),
        template=f"{name} {fields}",
        verbalizer={word: word for word in words},
        url="https://gluebenchmark.com/tasks",
        templates={"plain": plain},
        **rest,
    )


def rounded(row: Row) -> Rows:
    """STS-B's score to the nearest fifth, as text."""
    yield {**row, "label": f"{round(row['label'] * 5) / 5:.1f}"}


MNLI = glue(
    "mnli",
    "hypothesis: {hypothesis} premise: {premise}",
    NLI,
    large(test="validation_matched"),
    plain="{premise}\nDoes this mean that {hypothesis}\nAnswer:",
    instruction="Decide whether the premise entails the hypothesis, contradicts it, or is neutral.\n",
)

TASKS = (
    # They drank the pub. -> unacceptable
    glue(
        "cola",
        "sentence: {sentence}",
        ("unacceptable", "acceptable"),
        small(),
        metrics=("matthews",),
        plain="{sentence}\nAs English, this sentence is",
        instruction="Decide whether the sentence is acceptable or unacceptable English.\n",
    ),
    # it confirms fincher's status as a film maker -> positive
    glue(
        "sst2",
        "sentence: {sentence}",
        ("negative", "positive"),
        large(),
        plain="{sentence}\nSentiment:",
        instruction="Decide whether the feeling of this piece of a movie review is negative or positive.\n",
    ),
    # The firm rose 2 % . / Shares of the firm went up 2 % . -> equivalent
    glue(
        "mrpc",
        "sentence1: {sentence1} sentence2: {sentence2}",
        ("not_equivalent", "equivalent"),
        small(),
        metrics=("accuracy", "f1"),
        plain=PLAIN_PAIR + "In meaning, the two sentences are",
        instruction="Decide whether the two sentences are equivalent in meaning or not.\n",
    ),
    # How do I learn Go? / What is Go? -> not_duplicate
    glue(
        "qqp",
        "question1: {question1} question2: {question2}",
        ("not_duplicate", "duplicate"),
        large(),
        metrics=("accuracy", "f1"),
        plain="{question1}\n{question2}\nThe second question is, of the first,",
        instruction="Decide whether the second question is a duplicate of the first or not.\n",
    ),
    # A plane is taking off. / An air plane takes off. -> 5.0
    glue(
        "stsb",
        "sentence1: {sentence1} sentence2: {sentence2}",
        (),
        small(),
        unfold=rounded,
        metrics=("pearson", "spearman"),
        plain=PLAIN_PAIR + "Likeness from 0.0 to 5.0:",
        instruction="Rate how alike the two sentences are in meaning, from 0.0 (not) to 5.0 (the same).\n",
    ),
    # A cat sleeps. (hypothesis) / The animal, a cat, is asleep. -> entailment
    MNLI,
    # The same task; the test's texts are of other kinds than those to train on.
    replace(
        MNLI,
        name="glue_mnli_mismatched",
        source=Tfds("glue/mnli", large(test="validation_mismatched")),
    ),
    # When did he die? / He was born in 1901. -> not_entailment
    glue(
        "qnli",
        "question: {question} sentence: {sentence}",
        ("entailment", "not_entailment"),
        large(),
        plain="{sentence}\nIs this question answered: {question}\nAnswer:",
        instruction="Decide whether the sentence holds the answer to the question (entailment) or not.\n",
    ),
    # No weapons have been found yet. / Weapons were found. -> not_entailment
    glue(
        "rte",
        "sentence1: {sentence1} sentence2: {sentence2}",
        ("entailment", "not_entailment"),
        small(),
        plain="{sentence1}\nDoes this mean that {sentence2}\nAnswer:",
        instruction="Decide whether the first sentence entails the second or not.\n",
    ),
    # The cup did not fit in the box as it was too big. / The cup was too big. -> entailment
    glue(
        "wnli",
        "sentence1: {sentence1} sentence2: {sentence2}",
        ("not_entailment", "entailment"),
        small(),
        plain="{sentence1}\nDoes this mean that {sentence2}\nAnswer:",
        instruction="Decide whether the first sentence entails the second or not.\n",
    ),
)
