"""The papers' tasks, on rows of each data set's real specification: TFDS knows it without a download."""

import itertools
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from toys import tiny_tokenizer

from mpt.catalog.library import find_task, packaged_tasks
from mpt.data.records import Record
from mpt.data.sources import Tfds
from mpt.data.splits import SPLITS
from mpt.data.tokenise import encode
from mpt.errors import UserError
from mpt.tasks.continual import SEQUENCES

ROWS = 1010  # a large data set's validation split takes 1,000 of the rows to train on


def tfds_source(task) -> Tfds | None:
    """What a task reads of TFDS, perhaps through a source of its own."""
    found = getattr(task.source, "source", task.source)
    return found if isinstance(found, Tfds) else None


TASKS = {name: task for name, task in packaged_tasks().items() if tfds_source(task)}


@pytest.fixture(autouse=True)
def as_with_a_network(monkeypatch):
    """Without one, a data set that is not here yet would be refused."""
    monkeypatch.setattr("mpt.data.sources.is_online", lambda: True)


class NoDownloads:
    """Stands where a data set downloads its files: enough for it to say which splits it has."""

    def download(self, urls: Any) -> Any:
        if isinstance(urls, dict):
            return {name: self.download(url) for name, url in urls.items()}
        return [self.download(url) for url in urls] if isinstance(urls, list) else Path("nowhere")

    download_and_extract = download

    def iter_archive(self, path: Path) -> list:
        return []


def made_up(feature: Any, rng: np.random.Generator) -> Any:
    """A random value of a feature."""
    kind = tfds.features
    if isinstance(feature, kind.FeaturesDict):
        return {name: made_up(part, rng) for name, part in feature.items()}
    if isinstance(feature, kind.Sequence):
        return [made_up(feature.feature, rng) for _ in range(rng.integers(1, 4))]
    if isinstance(feature, kind.ClassLabel):
        return int(rng.integers(feature.num_classes))
    if np.issubdtype(feature.np_dtype, np.number):
        return feature.np_dtype(rng.uniform(0, 5))
    return " ".join(rng.choice(["bad", "é", "{word}", "<b>good</b>"], 4))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepares a data set in a folder of the tests' own, where ``Tfds`` then finds it.

    Returns a function of the data set's name, which gives its features.
    """
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()

    @cache
    def prepare(name: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            # Two places where TFDS asks TensorFlow for a type that NumPy has.
            patch.setattr("tensorflow_datasets.text.super_glue.tf", SimpleNamespace(int32=np.int32))
            patch.setattr(
                "tensorflow_datasets.core.features.TensorInfo.dtype", property(lambda info: info.np_dtype)
            )
            builder = tfds.builder(name, data_dir=folder, file_format="array_record")
            splits = builder._split_generators(NoDownloads())
            names = splits if isinstance(splits, dict) else [split.name for split in splits]
            rng, features = np.random.default_rng(0), builder.info.features

            def rows(split):
                count = ROWS if str(split).startswith("train") else 30
                return ((i, made_up(features, rng)) for i in range(count))

            patch.setattr(builder, "_split_generators", lambda _: {split: rows(split) for split in names})
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
            return features

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder))
        yield prepare


@pytest.mark.parametrize("name", TASKS)
def test_task_reads_its_data_set(prepared, name):
    task = TASKS[name]
    features = prepared(tfds_source(task).name)
    if task.choices:
        names = features[task.label].names
        assert set(names) == set(task.verbalizer)
        if name.startswith(("glue", "superglue")):  # T5 says the labels as TFDS names them
            assert task.choices == tuple(names)
    for split in SPLITS:
        examples = list(itertools.islice(task.examples(split), 15))
        assert len(examples) >= 10
        for example in examples:
            assert all(example.fields.values())
            assert example.target in (task.choices or [example.target])
            assert example.target
            assert bool(example.group) == bool(task.group)
        assert {example.target for example in examples} >= set(task.choices)
        for template in task.templates:
            assert next(task.with_template(template).examples(split)).inputs
    assert "tensorflow" not in sys.modules


def test_validation_rows_are_not_trained_on(prepared):
    prepared("glue/mnli")
    splits = {
        split: len(list(find_task("glue_mnli").examples(split))) for split in ("train", "validation", "test")
    }
    assert splits == {"train": ROWS - 1000, "validation": 1000, "test": 30}


def test_small_data_sets_halve_their_validation_split(prepared):
    prepared("glue/rte")
    counts = [len(list(find_task("glue_rte").examples(split))) for split in SPLITS]
    assert counts == [ROWS, 15, 15]


def test_tasks_of_papers_become_tokens(prepared):
    prepared("glue/rte")
    rows = encode(list(find_task("glue_rte").examples("test")), tiny_tokenizer(), max_length=40)
    assert all(len(row.inputs) <= 40 and len(row.choices) == 2 for row in rows)
    assert {row.label for row in rows} == {0, 1}


def read(name: str, **row):
    """The examples that a row of a task's data set stands for."""
    task = packaged_tasks()[name]
    unfold = getattr(tfds_source(task), "unfold", None) or (lambda row: [row])
    return [task.example(Record("row", columns)) for columns in unfold(row)]


QUERY = {"query": "A @placeholder is a bird.", "entities": ["penguin", "potato"], "answers": ["penguin"]}
WSC = {"span1_text": "test", "span1_index": 3, "span2_text": "This", "span2_index": 0, "label": "False"}


@pytest.mark.parametrize(
    ("name", "row", "inputs", "references"),
    [
        (
            "glue_qqp",
            {"question1": "Why?", "question2": "Why so?", "label": "duplicate"},
            "qqp question1: Why? question2: Why so?",
            ("duplicate",),
        ),
        (
            "glue_mnli",
            {"premise": "A cat sleeps.", "hypothesis": "It sleeps.", "label": "entailment"},
            "mnli hypothesis: It sleeps. premise: A cat sleeps.",
            ("entailment",),
        ),
        (
            "glue_stsb",
            {"sentence1": "a", "sentence2": "b", "label": 3.75},
            "stsb sentence1: a sentence2: b",
            ("3.8",),
        ),
        ("glue_stsb", {"sentence1": "a", "sentence2": "b", "label": 5.0}, None, ("5.0",)),
        ("glue_stsb", {"sentence1": "a", "sentence2": "b", "label": 0.049}, None, ("0.0",)),
        (
            "superglue_copa",
            {"choice1": "b", "choice2": "c", "premise": "a", "question": "cause", "label": "choice2"},
            "copa choice1: b choice2: c premise: a question: cause",
            ("choice2",),
        ),
        (
            "superglue_multirc",
            {
                "paragraph": "<b>Sent 1: </b>Tom met Ann.<br>",
                "question": "Whom?",
                "answer": "<b>Ann</b>",
                "idx": {"paragraph": 3, "question": 7, "answer": 1},
                "label": "True",
            },
            "multirc question: Whom? answer: Ann paragraph: Sent 1: Tom met Ann.",
            ("True",),
        ),
        (
            "superglue_record",
            {**QUERY, "passage": 'He said "no"\n@highlight\nBirds fly\n@highlight\nNot all.'},
            "record query: A @placeholder is a bird. entities: penguin, potato "
            'passage: He said "no" Birds fly. Not all.',
            ("penguin",),
        ),
        (
            "superglue_record",
            {**QUERY, "passage": "a", "answers": ["penguin", "pigeon"]},
            None,
            ("penguin", "pigeon"),
        ),
        (
            "superglue_wsc",
            {**WSC, "text": "This is a test sentence ."},
            "wsc text: # This # is a * test * sentence .",
            ("False",),
        ),
        (
            "superglue_wsc",
            {
                "text": "Ann told Eve (her boss) that she had won.",
                "span1_text": "Eve (her boss)",
                "span1_index": 2,
                "span2_text": "she",
                "span2_index": 6,
                "label": "True",
            },
            "wsc text: Ann told * Eve (her boss) * that # she # had won.",
            ("True",),
        ),
        (
            "squad",
            {
                "context": "Ice floats.",
                "question": "What floats?",
                "answers": {"text": ["Ice", "ice"], "answer_start": [0, 0]},
            },
            "question: What floats? context: Ice floats.",
            ("Ice", "ice"),
        ),
        ("nq", {"context": "a", "question": "b", "answers": ["c", "d"]}, None, ("c", "d")),
        (
            "webnlg",
            {"input": ["Oslo | in | Norway", "Oslo | is | old"], "target": "t", "references": ["r", "s"]},
            "webnlg: Oslo | in | Norway && Oslo | is | old",
            ("r", "s"),
        ),
        ("webnlg", {"input": ["a | b | c"], "target": "t", "references": []}, "webnlg: a | b | c", ("t",)),
        ("amazon", {"text": "Broke.", "label": 0}, "amazon sentence: Broke.", ("terrible",)),
        ("yelp", {"text": "Fine.", "label": "2 star"}, "yelp sentence: Fine.", ("bad",)),
        (
            "dbpedia",
            {"title": "Oslo", "content": "A city.", "label": "Village"},
            "dbpedia title: Oslo content: A city.",
            ("village",),
        ),
        (
            "yahoo",
            {
                "question_title": "why",
                "question_content": "is it blue",
                "best_answer": "Light.",
                "topic": "Science & Mathematics",
            },
            "yahoo question: why is it blue answer: Light.",
            ("science",),
        ),
    ],
)
def test_row_reads_as_in_t5(name, row, inputs, references):
    (example,) = read(name, **row)
    assert inputs in (None, example.inputs)
    assert (example.target, example.references) == (references[0], references)


def test_multirc_groups_the_answers_to_a_question():
    row = {"paragraph": "a", "question": "b", "answer": "c", "label": "True"}
    (one,) = read("superglue_multirc", **row, idx={"paragraph": 3, "question": 7, "answer": 0})
    (two,) = read("superglue_multirc", **row, idx={"paragraph": 3, "question": 7, "answer": 1})
    (other,) = read("superglue_multirc", **row, idx={"paragraph": 4, "question": 7, "answer": 1})
    assert one.group == two.group != other.group


def test_stsb_targets_are_fifths():
    scores = np.linspace(0, 5, 501)
    found = {read("glue_stsb", sentence1="a", sentence2="b", label=score)[0].target for score in scores}
    assert found == {f"{fifth / 5:.1f}" for fifth in range(26)}


def test_webnlg_row_without_a_text_is_left_out():
    assert read("webnlg", input=["a | b | c"], target="", references=[]) == []


def test_e2e_gathers_the_references_of_an_input_except_to_train_on(monkeypatch):
    def rows(source, part):
        for number, (meaning, text) in enumerate([("a", "one"), ("b", "two"), ("a", "three")]):
            yield Record(f"{part} {number}", {"meaning_representation": meaning, "target": text})

    monkeypatch.setattr(Tfds, "rows", rows)
    found = [(example.inputs, example.references) for example in find_task("e2e").examples("test")]
    assert found == [("e2e: a", ("one", "three")), ("e2e: b", ("two",))]
    assert [example.references for example in find_task("e2e").examples("train")] == [
        ("one",),
        ("two",),
        ("three",),
    ]


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_are_orders_of_packaged_tasks(name):
    sequence = SEQUENCES[name]
    count = {"four": 4, "five": 5, "fifteen": 15}[name.partition("_")[0]]
    assert set(sequence) <= set(packaged_tasks())
    assert len(sequence) == len(set(sequence)) == count


def test_missing_tensorflow_is_named(monkeypatch):
    def data_source(*_, **__):
        raise ModuleNotFoundError("Failed to construct dataset \"super_glue\": No module named 'tensorflow'")

    monkeypatch.setattr(tfds, "data_source", data_source)
    message = "cannot prepare TFDS super_glue/cb:1.0.2: No module named 'tensorflow'; install that package"
    with pytest.raises(UserError, match=re.escape(message)):
        list(find_task("superglue_cb").examples("train"))


def test_listing_tasks_loads_no_data_library():
    program = (
        "import sys\n"
        "from mpt.catalog.library import packaged_tasks\n"
        "assert len(packaged_tasks()) > 40\n"
        "assert not {'tensorflow_datasets', 'datasets', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
