"""A text's task is guessed by linear discriminant analysis over the backbone's own states."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mpt.continual_learning.task_identity import SHRINKAGE, TaskStatistics, features, plain_text
from mpt.data.batches import collate
from mpt.data.task import Example
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

D = 6


def rows_of(task: int, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(task)
    spread = np.random.default_rng(9).normal(size=(D, D))
    return (rng.normal(size=(count, D)) @ spread + 3 * rng.normal(size=D)).astype(np.float32)


def keys(*tasks: np.ndarray) -> TaskStatistics:
    found = TaskStatistics.empty(D)
    for rows in tasks:
        found = found.learned(rows)
    return found


def test_nearest_is_the_likeliest_gaussian():
    """Against the densities themselves, with the covariance over all rows at once."""
    from scipy.stats import multivariate_normal

    tasks = [rows_of(0), rows_of(1, 25), rows_of(2, 31)]
    apart = np.concatenate([rows - rows.mean(axis=0) for rows in tasks]).astype(np.float64)
    covariance = apart.T @ apart / len(apart)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / D * np.eye(D)
    asked = np.random.default_rng(5).normal(size=(200, D)) * 6
    densities = [multivariate_normal(rows.mean(axis=0), covariance).logpdf(asked) for rows in tasks]
    found = keys(*tasks).nearest(asked)
    np.testing.assert_array_equal(found, np.argmax(densities, axis=0))
    assert len(set(found.tolist())) == 3


def test_key_of_an_earlier_task_stays_as_it_was(tmp_path):
    first, both = keys(rows_of(0)), keys(rows_of(0), rows_of(1))
    np.testing.assert_array_equal(first.means[0], both.means[0])
    both.save(tmp_path / "keys.safetensors")
    again = TaskStatistics.load(tmp_path / "keys.safetensors").learned(rows_of(2))
    whole = keys(rows_of(0), rows_of(1), rows_of(2))
    for name in ("means", "scatter", "rows"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_order_of_tasks_does_not_matter():
    tasks, asked = [rows_of(i) for i in range(3)], np.random.default_rng(5).normal(size=(50, D)) * 6
    backwards = 2 - keys(*tasks[::-1]).nearest(asked)
    np.testing.assert_array_equal(keys(*tasks).nearest(asked), backwards)


def test_features_are_the_mean_state_of_the_text_alone(pretrained):
    texts = ["so great", "we are glad to see it", ""]
    found = features(pretrained, texts, max_length=4)
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.zeros((1, 0, 32))))
    end = pretrained.tokenizer.eos_token_id
    for text, mean in zip(texts, found):
        ids = pretrained.tokenizer(text)["input_ids"][:4] or [end]
        hidden = model(jax.tree.map(jnp.asarray, collate([Row(ids, [end])], [0]))).hidden[0]
        np.testing.assert_allclose(mean, hidden[: len(ids)].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert found.shape == (3, 32)
    assert pytest.approx(found[1]) != found[0]


def test_template_is_no_part_of_the_text():
    example = Example("{title}. {text}\nTopic:", {"title": "Rain", "text": "It rained."}, "news")
    assert plain_text(example) == "Rain It rained."
