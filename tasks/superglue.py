"""SuperGLUE (Wang et al., 2019). Inputs and class words are T5's (Raffel et al., 2020, appendix D).

- WSC is the classification that T5's code first had and ATTEMPT has: a *noun*, a #pronoun#, True or
  False. T5's own figures are of writing the noun, trained on true rows only.
- MultiRC is split as a large data set; ATTEMPT's code halves its validation split, which tears the
  answers to a question apart.
- A ReCoRD row is one example, whose target is the first of its answers; T5 trains on each of them.

TFDS prepares most of these with TensorFlow, once; with their version named, they are read without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mpt.data.sources import Tfds
from mpt.data.task import Task
from mpt.tasks import Row, Rows, large, small

BOOLEAN = ("False", "True")


def superglue(
    name: str,
    fields: str,
    words: tuple[str, ...],
    splits: Mapping[str, str],
    plain: str,
    unfold: Callable[[Row], Rows] | None = None,
    config: str = "",
    **rest: Any,
) -> Task:
    """Its labels are said as TFDS names them."""
    return Task(
        name=f"superglue_{name}",
        source=Tfds(f"super_glue/{config or name}:1.0.2", splits, unfold),
        template=f"{name} {fields}",
        verbalizer={word: word for word in words},
        url="https://super.gluebenchmark.com/tasks",
        templates={"plain": plain},
        **rest,
    )


def without_markup(row: Row) -> Rows:
    """MultiRC's texts without HTML, and the name of the question that an answer belongs to."""
    texts = {
        name: re.sub("</?b>", "", row[name].replace("<br>", " "))
        for name in ("paragraph", "question", "answer")
    }
    yield {**row, **texts, "asked": f"{row['idx']['paragraph']}-{row['idx']['question']}"}


def one_passage(row: Row) -> Rows:
    """ReCoRD's entities as text, and its passage without the marks of the summary in it."""
    passage = re.sub(r"([.?!\"'])\n@highlight\n", r"\1 ", row["passage"]).replace("\n@highlight\n", ". ")
    yield {**row, "passage": passage, "entities": ", ".join(row["entities"])}


def marked(row: Row) -> Rows:
    """WSC's text with signs around the noun and the pronoun, which are found by counting words."""
    noun, pronoun = row["span1_index"], row["span2_index"]
    text = _marked(row["text"], row["span1_text"], noun, "*")
    yield {**row, "text": _marked(text, row["span2_text"], pronoun + 2 * (noun < pronoun), "#")}


def _marked(text: str, span: str, index: int, sign: str) -> str:
    return re.sub(rf"^((?:\S+\s){{{index}}})({re.escape(span)})", rf"\1{sign} \2 {sign}", text)


TASKS = (
    # Ice floats on water. / does ice sink in water -> False
    superglue(
        "boolq",
        "passage: {passage} question: {question}",
        BOOLEAN,
        small(),
        plain="{passage}\nQuestion: {question}?\nTrue or False?",
        instruction="Answer the yes-no question about the passage with True or False.\n",
    ),
    # A: I don't think he came. / he came -> contradiction
    superglue(
        "cb",
        "hypothesis: {hypothesis} premise: {premise}",
        ("entailment", "contradiction", "neutral"),
        small(),
        metrics=("accuracy", "macro_f1"),
        plain="{premise}\nDoes this mean that {hypothesis}?\nAnswer:",
        instruction="Decide whether the premise entails the hypothesis, contradicts it, or is neutral.\n",
    ),
    # The man broke his toe. What is the cause? He got a hole in his sock. / He dropped a hammer. -> choice2
    superglue(
        "copa",
        "choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
        ("choice1", "choice2"),
        small(),
        plain="{premise}\nWhat is the {question}?\nchoice1: {choice1}\nchoice2: {choice2}\nAnswer:",
        instruction="Decide which choice is the likelier cause or effect of the premise.\n",
    ),
    # Tom met Ann and Bob. / Whom did Tom meet? / Bob -> True
    superglue(
        "multirc",
        "question: {question} answer: {answer} paragraph: {paragraph}",
        BOOLEAN,
        large(),
        unfold=without_markup,
        metrics=("multirc_f1", "multirc_em"),
        group="asked",
        plain="{paragraph}\nQuestion: {question}\nIs this an answer: {answer}\nTrue or False?",
        instruction="Decide whether the answer to the question about the paragraph is True or False.\n",
    ),
    # Ann left @placeholder in May. / Ann, Rome / Ann lived in Rome until May. -> Rome
    superglue(
        "record",
        "query: {query} entities: {entities} passage: {passage}",
        (),
        large(),
        unfold=one_passage,
        label="answers",
        metrics=("record_f1", "record_em"),
        plain="{passage}\n{query}\nWhich of {entities} is @placeholder?\nAnswer:",
        instruction="Say which of the entities stands at the query's @placeholder, by the passage.\n",
    ),
    # Bob has died. / Bob is alive. -> not_entailment
    superglue(
        "rte",
        "hypothesis: {hypothesis} premise: {premise}",
        ("entailment", "not_entailment"),
        small(),
        plain="{premise}\nDoes this mean that {hypothesis}\nAnswer:",
        instruction="Decide whether the premise entails the hypothesis or not.\n",
    ),
    # The bank of the river. / He robbed a bank. / bank -> False
    superglue(
        "wic",
        "sentence1: {sentence1} sentence2: {sentence2} word: {word}",
        BOOLEAN,
        small(),
        plain="{sentence1}\n{sentence2}\nThe word {word} means the same in both. True or False?",
        instruction="Decide whether it is True or False that the word has one meaning in both sentences.\n",
    ),
    # * Ann * told Eve that # she # had won. -> True
    superglue(
        "wsc",
        "text: {text}",
        BOOLEAN,
        small(),
        config="wsc.fixed",
        unfold=marked,
        plain="{text}\nThe word in # # stands for the one in * *. True or False?",
        instruction="Decide whether it is True or False that the word in # # stands for the one in * *.\n",
    ),
)
