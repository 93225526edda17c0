"""Each baseline against its plain definition, on rows whose answer is known."""

from __future__ import annotations

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.model_selection import StratifiedKFold

from mpt.baselines import BASELINES, Problem, States
from mpt.baselines.counting_words import texts
from mpt.baselines.linear_probe import FOLDS, STRENGTHS, best_of, probe
from mpt.catalog.from_python import make_task
from mpt.config.adapt import BaselineName
from mpt.data.batches import collate
from mpt.data.text.labelled import Labelled
from mpt.data.tokenise import encode
from mpt.loading.hf import load_pretrained
from mpt.types import Row


class Counted(States):
    """States of two numbers, and how often a text was asked for."""

    def __call__(self, rows):
        return np.array(
            [[[0.0, 0.0], [sum(row.inputs), 1.0], [row.inputs[-1], 0.0]] for row in rows], np.float32
        )


def task_of(rows, **keys):
    words = {"yes": "good", "no": "bad"}
    return make_task({"train": rows}, "toy", template="{text}\nSo:", verbalizer=words, **keys)


def problem(pretrained, train, asked, task=None, states=None) -> Problem:
    """A problem on rows of Python."""
    task = task or task_of(train)
    examples = [[task.example(record) for record in task.records("rows", rows)] for rows in (train, asked)]
    labelled = [Labelled(each, encode(each, pretrained.tokenizer, 24)) for each in examples]
    frequencies = np.bincount(labelled[0].classes, minlength=2)
    return Problem(task, frequencies, *labelled, states or States(pretrained))


def rows(*pairs):
    return [{"text": text, "label": label} for text, label in pairs]


TRAIN = rows(("great film", "yes"), ("great fun", "yes"), ("awful film", "no"), ("awful bore", "no"))


def test_every_name_is_an_option():
    assert tuple(BASELINES) == get_args(BaselineName)


def test_largest_class_is_that_of_the_whole_split(pretrained):
    asked = problem(pretrained, TRAIN, TRAIN)._replace(frequencies=np.array([3, 9]))
    said = BASELINES["largest class"].answer(asked)
    assert said.texts == ["bad"] * 4
    np.testing.assert_allclose(said.probabilities, np.tile([0.25, 0.75], (4, 1)))


def test_counting_words_is_scikit_learns_pipeline(pretrained):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    asked = rows(("an awful one", "no"), ("what a great day", "yes"), ("film", "yes"))
    given = problem(pretrained, TRAIN, asked)
    said = BASELINES["counting words"].answer(given)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1)
    naive = make_pipeline(words, LogisticRegression(C=10, max_iter=2000))
    naive.fit(texts(given.train.examples), [row["label"] for row in TRAIN])
    order = [list(naive.classes_).index(label) for label in ("yes", "no")]
    expected = naive.predict_proba([row["text"] for row in asked])[:, order]
    np.testing.assert_allclose(said.probabilities, expected, atol=1e-6)
    assert said.texts[:2] == ["bad", "good"]


def test_counting_words_reads_fields_and_not_the_template(pretrained):
    task = make_task([{"a": "x", "b": "y", "label": "1"}], "two", template="A: {a} B: {b}")
    records = task.records("rows", [{"a": "x", "b": "y", "label": "1"}])
    assert texts([task.example(records[0])]) == ["x\ny"]


@pytest.mark.parametrize("text", ["", "1 2 !"])
def test_counting_words_without_a_word(pretrained, text):
    given = problem(pretrained, rows((text, "yes"), (text, "no")), TRAIN)
    assert BASELINES["counting words"].answer(given).probabilities.shape == (4, 2)


@pytest.mark.parametrize("name", ["counting words", "linear probe"])
def test_drawn_rows_of_one_class(pretrained, name):
    given = problem(pretrained, TRAIN[2:], TRAIN, states=Counted(pretrained))
    said = BASELINES[name].answer(given)
    assert said.texts == ["bad"] * 4
    np.testing.assert_array_equal(said.probabilities, np.tile([0.0, 1.0], (4, 1)))


def test_a_class_without_a_drawn_row_keeps_its_column(pretrained):
    words = {"yes": "good", "so": "fair", "no": "bad"}
    task = make_task({"train": TRAIN}, "three", template="{text}\nSo:", verbalizer=words)
    given = problem(pretrained, TRAIN, TRAIN, task, Counted(pretrained))
    for name in ("counting words", "linear probe"):
        probabilities = BASELINES[name].answer(given).probabilities
        np.testing.assert_array_equal(probabilities[:, 1], 0)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_probe_takes_what_does_best_in_cross_validation():
    rng = np.random.default_rng(0)
    classes = np.arange(20) % 2
    states = rng.normal(size=(20, 3, 3)).astype(np.float32)
    states[:, :2] = 0  # only the last token's state tells the classes
    states[:, 2, 0] += 8 * classes
    pooling, strength = best_of(states, classes)
    assert pooling == "last"

    def accuracy(strength: float) -> float:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(states, classes)
        right = [
            probe(strength).fit(states[known, 2], classes[known]).predict(states[held, 2]) == classes[held]
            for known, held in folds
        ]
        return float(np.mean(right))

    assert strength == max(STRENGTHS, key=accuracy)


def test_probe_of_a_single_row_of_a_class_holds_nothing_out():
    assert best_of(np.zeros((3, 3, 2), np.float32), np.array([0, 0, 1])) == ("mean", STRENGTHS[1])


def test_copying_is_for_free_text():
    task = make_task(
        {"train": [{"name": "Al", "facts": "eats here", "label": "Al eats here"}]}, "free", verbalizer={}
    )
    copied = BASELINES["copy the input"]
    (example,) = task.examples("train")
    given = Problem(task, np.zeros(0, int), Labelled([], []), Labelled([example], []), None)  # type: ignore[arg-type]
    assert copied.answer(given).texts == ["eats here"]
    assert [name for name, each in BASELINES.items() if each.applies(task)] == ["copy the input"]
    assert not copied.applies(task_of(TRAIN))


@pytest.mark.parametrize("model", ["tiny_model", "tiny_t5"])
def test_states_are_those_of_each_text_alone(model, request):
    """What stands beside a text in a batch does not change its states."""
    pretrained = load_pretrained(str(request.getfixturevalue(model)))
    backbone = pretrained.backbone
    texts = [[5, 9, 40], [7], [11, 12, 13, 14, 15, 16]]
    found = States(pretrained)([Row(ids, [0]) for ids in texts])
    assert found.shape == (3, 3, backbone.embedding.shape[1])
    nothing = jnp.zeros((1, 0, found.shape[-1]))
    alone = nnx.jit(lambda backbone, batch: backbone(batch, nothing).hidden[0])
    for ids, states in zip(texts, found):
        batch = jax.tree.map(jnp.asarray, collate([Row(ids, [0])], [0], backbone.layout))
        hidden = np.asarray(alone(backbone, batch))[: len(ids)]
        np.testing.assert_allclose(states[1:], [hidden.mean(axis=0), hidden[-1]], rtol=1e-4, atol=1e-4)


def test_a_text_is_run_once(pretrained, monkeypatch):
    states, ran = States(pretrained), []
    monkeypatch.setattr(states, "_run", lambda texts: ran.append(list(texts)) or fake(states, texts))
    row = Row([3, 4], [0])
    states([row, row])
    states([row, Row([5], [0])])
    assert ran == [[(3, 4)], [(5,)]]


def fake(states: States, texts) -> None:
    states._known |= {text: np.zeros((3, 2), np.float32) for text in texts}
