"""Prompts are ordered and mapped by how alike they are."""

import numpy as np
import pytest

from mpt.insight.similarity import compared, plane


def prompts(seed: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3 + i % 2, 8)).astype(np.float32) for i in range(count)]


def test_like_prompts_stand_beside_each_other():
    first, second = np.eye(8)[:2]
    noise = 0.05 * np.random.default_rng(0).normal(size=(4, 2, 8))
    found = compared([first + noise[0], second + noise[1], first + noise[2], second + noise[3]])
    places = {prompt: place for place, prompt in enumerate(found.order)}
    assert abs(places[0] - places[2]) == abs(places[1] - places[3]) == 1
    assert found.cosines[0, 2] > 0.9 > 0.2 > abs(found.cosines[0, 1])


def test_plane_is_classical_scaling():
    """As Torgerson has it: the leading eigenvectors of the doubly centred squared distances."""
    found = compared(prompts(1, 5))
    squared = 2 - 2 * found.cosines
    centring = np.eye(5) - 1 / 5
    size, axes = np.linalg.eigh(-centring @ squared @ centring / 2)
    wanted = axes[:, :-3:-1] * np.sqrt(size[:-3:-1])
    np.testing.assert_allclose(np.abs(found.coordinates), np.abs(wanted), atol=1e-8)
    assert found.explained == pytest.approx(size[-2:].sum() / size.sum())


def test_distances_in_the_plane_are_those_between_points_that_lie_in_one():
    points = np.random.default_rng(2).normal(size=(6, 2)) @ np.random.default_rng(3).normal(size=(2, 7))
    places, kept = plane(points)
    apart = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (points, places)]
    np.testing.assert_allclose(*apart, atol=1e-12)
    assert kept == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2])
def test_few_prompts_have_a_place_too(count):
    found = compared(prompts(4, count))
    assert sorted(found.order) == list(range(count)) and found.coordinates.shape == (count, 2)
    assert np.isfinite(found.coordinates).all() and found.explained == pytest.approx(1)
