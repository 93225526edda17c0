"""What leaving out each vector of a prompt does, against a model that sees rows one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mpt.data.batches import collate
from mpt.insight import positions
from mpt.insight.attention import prompt_mass
from mpt.insight.positions import ablation, attention
from mpt.types import Row

ROWS = [Row([5, 9, 11, 4], [8, 12]), Row([33, 2], [9]), Row([6, 14, 25], [20]), Row([40], [41])]
VECTORS = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)


@pytest.fixture
def backbone(pretrained, monkeypatch):
    """In batches of which the last is not full."""
    monkeypatch.setattr(positions, "BATCH", 3)
    return pretrained.backbone


@jax.jit
def predicted(backbone, batch, vectors):
    return jax.nn.log_softmax(backbone(batch, vectors).logits[0])


def loss(backbone, vectors: np.ndarray, row: Row) -> float:
    log_p = predicted(backbone, collate([row], [0]), vectors[None])
    return -sum(float(log_p[i, token]) for i, token in enumerate(row.targets))


def test_ablation_equals_shorter_prompts(backbone):
    calls = []
    found = ablation(backbone, VECTORS, ROWS, lambda: calls.append(1))
    whole = np.array([loss(backbone, VECTORS, row) for row in ROWS])
    rises = np.array(
        [[loss(backbone, VECTORS[np.arange(3) != i], row) for row in ROWS] - whole for i in range(3)]
    )
    assert len(calls) == 3
    assert found.loss == pytest.approx(whole.mean(), rel=1e-4)
    np.testing.assert_allclose(found.rise, rises.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(found.error, rises.std(axis=1, ddof=1) / 2, atol=1e-4)


def test_one_row_has_no_error_and_one_vector_can_go(backbone):
    found = ablation(backbone, VECTORS[:1], ROWS[:1])
    assert np.isnan(found.error).all()
    wanted = loss(backbone, VECTORS[:0], ROWS[0]) - loss(backbone, VECTORS[:1], ROWS[0])
    np.testing.assert_allclose(found.rise, [wanted], atol=1e-4)


def test_attention_is_the_mean_over_rows_each_alone(backbone):
    found = attention(backbone, VECTORS, ROWS)["labels"]
    alone = [prompt_mass(backbone, collate([row], [0]), jnp.asarray(VECTORS[None]))["labels"] for row in ROWS]
    np.testing.assert_allclose(found, np.mean(alone, axis=0)[:, 0], rtol=1e-4)
    assert found.shape == (2, 3) and (found.sum(axis=1) < 1).all()
