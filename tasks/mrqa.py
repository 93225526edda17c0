"""Reading comprehension: SQuAD 1.1, and MRQA's parts (Fisch et al., 2019) that have rows to train on.

Inputs are T5's (Raffel et al., 2020, appendix D), but that T5, for scoring, also sets spaces around
punctuation; the metrics here need none. TFDS prepares MRQA's parts with TensorFlow, once.
"""

from __future__ import annotations

from collections.abc import Callable

from mpt.data.sources import Tfds
from mpt.data.task import Task
from mpt.tasks import Row, Rows, large


def answers(row: Row) -> Rows:
    """SQuAD's answers without their places."""
    yield {**row, "answers": row["answers"]["text"]}


def reading(name: str, data: str, url: str, unfold: Callable[[Row], Rows] | None = None) -> Task:
    return Task(
        name=name,
        source=Tfds(data, large(), unfold),
        template="question: {question} context: {context}",
        label="answers",
        metrics=("squad_f1", "squad_em"),
        instruction="Answer the question with words of the context.\n",
        url=url,
        templates={"plain": "{context}\nQuestion: {question}\nAnswer:"},
    )


TASKS = (
    # What floats on water? / Ice floats on water. -> Ice
    reading("squad", "squad/v1.1", "https://rajpurkar.github.io/SQuAD-explorer", answers),
    # who wrote the origin of species / <P> It was written by Charles Darwin . </P> -> Charles Darwin
    reading("nq", "mrqa/natural_questions", "https://ai.google.com/research/NaturalQuestions"),
    # Which came first, A or B? / [PAR] [TLE] A [SEP] 1909 [PAR] [TLE] B [SEP] 1901 -> B
    reading("hotpotqa", "mrqa/hotpot_qa", "https://hotpotqa.github.io"),
    # He painted the night watch / [DOC] [TLE] Rembrandt [PAR] The Night Watch is ... -> Rembrandt
    reading("searchqa", "mrqa/search_qa", "https://arxiv.org/abs/1704.05179"),
    # Which river flows through Rome? / [DOC] [TLE] Tiber [PAR] The Tiber runs through Rome -> Tiber
    reading("triviaqa", "mrqa/trivia_qa", "https://nlp.cs.washington.edu/triviaqa"),
    # Who won the match? / ROME, Italy (CNN) -- Lazio beat Roma on Sunday. -> Lazio
    reading("newsqa", "mrqa/news_qa", "https://mrqa.github.io/2019/shared.html"),
)
