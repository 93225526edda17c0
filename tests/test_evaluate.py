"""Scores of choices, against one row at a time with nothing padded."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mpt.data.batches import Batch, Row, collate
from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.evaluate import choice_probabilities, score
from mpt.models.prompted import Prompted
from mpt.prompts import SoftPrompt

SINGLE = ([20], [21], [22])
LONG = ([20], [21, 22, 23], [24, 25])


@pytest.fixture(scope="module")
def model(pretrained):
    vectors = 0.1 * np.random.default_rng(0).normal(size=(2, 4, 32)).astype(np.float32)
    return Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(vectors)))


def rows(choices) -> list[Row]:
    return [Row(list(range(3, 4 + length)), choices[0], choices, 0) for length in (5, 1, 9, 2, 7)]


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@nnx.jit
def read(model: Prompted, batch: Batch):
    return model(batch).logits


def expected(model, row: Row, prompt: int, mean: bool = False) -> np.ndarray:
    """p(choice) of one row, each choice read by itself."""
    scores = []
    for choice in row.choices:
        batch = collate([row._replace(targets=choice)], [prompt])
        logits = np.asarray(read(model, batch)[0], np.float64)
        total = log_softmax(logits)[range(len(choice)), choice].sum()
        scores.append(total / len(choice) if mean else total)
    return np.exp(log_softmax(np.array(scores)))


@pytest.mark.parametrize("choices", [SINGLE, LONG], ids=["one token", "several tokens"])
def test_probabilities_are_those_of_each_row_alone(model, choices):
    found = choice_probabilities(model, rows(choices), prompt=1, batch_size=2)
    for row, probabilities in zip(rows(choices), found):
        np.testing.assert_allclose(probabilities, expected(model, row, prompt=1), rtol=1e-4)


def test_probabilities_can_be_of_mean_scores(model):
    found = choice_probabilities(model, rows(LONG), prompt=1, scoring="mean")
    for row, probabilities in zip(rows(LONG), found):
        np.testing.assert_allclose(probabilities, expected(model, row, prompt=1, mean=True), rtol=1e-4)


def test_score_is_the_share_of_rows_whose_choice_is_likeliest(model, pretrained):
    task = Task("toy", Files({}), "{text}", {"a": "x", "b": "y", "c": "z"})
    best = choice_probabilities(model, rows(SINGLE)).argmax(axis=1)
    right = [row._replace(label=int(label)) for row, label in zip(rows(SINGLE), best)]
    wrong = [row._replace(label=(row.label + 1) % 3) for row in right]
    assert score(model, task, right, pretrained.tokenizer) == 1
    assert score(model, task, wrong, pretrained.tokenizer) == 0
    assert score(model, task, right[:2] + wrong[2:], pretrained.tokenizer) == pytest.approx(0.4)
