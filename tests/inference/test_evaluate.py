"""Scores of choices, against one row at a time with nothing padded."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.batches import collate
from mpt.data.sources import Files
from mpt.data.task import Example, Task
from mpt.inference.evaluate import SCORED, answers, choice_probabilities, grade, in_batches, predictions
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Batch, Row

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


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 9))
def test_rows_are_dealt_out_to_batches_of_one_size(lengths, size):
    rows = [Row([1] * length, [2], number=index) for index, length in enumerate(lengths)]
    made = list(in_batches(rows, [0] * len(rows), size, "decoder"))
    assert sorted(index for indices, _ in made for index in indices) == list(range(len(rows)))
    for indices, batch in made:
        assert batch.numbers[: len(indices)].tolist() == indices and len(batch.numbers) == size
    assert len({batch.tokens.shape + batch.grid.shape for _, batch in made}) == 1
    read = [
        sum(lengths[index] for index in indices) for indices, _ in made if len(indices) == len(made[0][0])
    ]
    assert max(read) - min(read) <= max(lengths)


@pytest.mark.parametrize("choices", [SINGLE, LONG], ids=["one token", "several tokens"])
def test_probabilities_are_those_of_each_row_alone(model, choices):
    found = choice_probabilities(model, rows(choices), prompt=1, batch_size=2)
    for row, probabilities in zip(rows(choices), found):
        np.testing.assert_allclose(probabilities, expected(model, row, prompt=1), rtol=1e-4)


def test_probabilities_can_be_of_mean_scores(model):
    averaged = [row._replace(scoring="mean") for row in rows(LONG)]
    found = choice_probabilities(model, averaged, prompt=1)
    for row, probabilities in zip(averaged, found):
        np.testing.assert_allclose(probabilities, expected(model, row, prompt=1, mean=True), rtol=1e-4)


def test_rows_of_tasks_with_more_and_fewer_choices_share_a_batch(model):
    mixed = [*rows(SINGLE), *[row._replace(choices=row.choices[:2]) for row in rows(SINGLE)]]
    found = choice_probabilities(model, mixed, prompt=[0, 1] * 5)
    for row, prompt, probabilities in zip(mixed, [0, 1] * 5, found):
        count = len(row.choices)
        np.testing.assert_allclose(probabilities[:count], expected(model, row, prompt), rtol=1e-4)
        assert not probabilities[count:].any()


def test_rows_of_tasks_with_more_and_fewer_choices_have_batches_of_one_size(model):
    few, *_ = rows(SINGLE)
    mixed = [few, few._replace(choices=[[token] for token in range(5, 25)])]
    assert (
        len({batch.classes.real.shape for _, batch in in_batches(mixed, [1, 1], 1, "decoder", SCORED)}) == 1
    )
    found = choice_probabilities(model, mixed, prompt=1, batch_size=1)
    for row, probabilities in zip(mixed, found):
        count = len(row.choices)
        np.testing.assert_allclose(probabilities[:count], expected(model, row, prompt=1), rtol=1e-4)
        assert not probabilities[count:].any()


def test_calibration_takes_off_what_a_model_likes_whatever_the_text(model, pretrained):
    """Rows that are all alike tell nothing: their classes come out even."""
    task = Task("toy", Files({}), "{text}", {"a": "x", "b": "y", "c": "z"})
    plain, fair = (
        answers(model, task, rows(SINGLE), pretrained.tokenizer, calibrate=calibrate)
        for calibrate in (False, True)
    )
    logs = np.log(plain.probabilities)
    weighed = np.exp(logs - logs.mean(axis=0))
    np.testing.assert_allclose(fair.probabilities, weighed / weighed.sum(axis=1, keepdims=True), rtol=1e-5)
    assert fair.texts == [task.choices[i] for i in weighed.argmax(axis=1)]
    same = answers(model, task, rows(SINGLE)[:1] * 4, pretrained.tokenizer, calibrate=True)
    np.testing.assert_allclose(same.probabilities, 1 / 3, rtol=1e-5)


def test_grade_is_the_share_of_examples_whose_choice_is_likeliest(model, pretrained):
    task = Task("toy", Files({}), "{text}", {"a": "x", "b": "y", "c": "z"})
    found = predictions(model, task, rows(SINGLE), pretrained.tokenizer)

    def graded(*targets: str) -> dict[str, float]:
        return grade(task, [Example("{text}", {}, target, task.choices) for target in targets], found)

    best = choice_probabilities(model, rows(SINGLE)).argmax(axis=1)
    right = [task.choices[i] for i in best]
    wrong = [task.choices[(i + 1) % 3] for i in best]
    assert graded(*right) == {"accuracy": 1}
    assert graded(*wrong) == {"accuracy": 0}
    assert graded(*right[:2], *wrong[2:]) == {"accuracy": pytest.approx(0.4)}
