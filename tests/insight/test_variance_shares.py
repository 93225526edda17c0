"""Shares of prompts: what is common, what is their own, and how much of the rank is used."""

import numpy as np

from mpt.insight.variance_shares import common_and_specific, rank_shares


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape)


def test_equal_prompts_have_all_in_common():
    found = common_and_specific(np.broadcast_to(random(4, 8), (3, 4, 8)))
    np.testing.assert_allclose(
        [found.common, *found.specific, *found.specific_by_position], [1, *[0] * 7], atol=1e-12
    )


def test_opposite_prompts_have_nothing_in_common():
    one = random(4, 8)
    found = common_and_specific(np.stack([one, -one]))
    np.testing.assert_allclose([found.common, *found.specific], [0, 1, 1], atol=1e-12)


def test_only_the_position_that_differs_is_their_own():
    prompts = np.repeat(random(1, 4, 8), 2, axis=0)
    prompts[1, 2] *= 3
    found = common_and_specific(prompts)
    # Vectors x and 3x: their mean is 2x, which leaves 2 of 10 parts.
    np.testing.assert_allclose(found.specific_by_position, [0, 0, 0.2, 0], atol=1e-12)
    whole = np.square(prompts).sum(axis=(1, 2))
    np.testing.assert_allclose(1 - found.common, np.average(found.specific, weights=whole))


def test_components_do_not_depend_on_how_they_are_written():
    """Orthogonal parts of known size; and the same matrix from mixed factors."""
    u, v = np.linalg.qr(random(1, 5, 2))[0], np.swapaxes(np.linalg.qr(random(1, 7, 2))[0], 1, 2)
    u = u * np.array([1.0, 3.0])
    np.testing.assert_allclose(rank_shares(u, v), [[0.9, 0.1]])
    mix = random(2, 2)
    np.testing.assert_allclose(rank_shares(u @ mix, np.linalg.inv(mix) @ v), [[0.9, 0.1]])


def test_a_rank_beyond_the_vectors_counts_as_nothing():
    np.testing.assert_allclose(rank_shares(np.ones((1, 1, 3)), np.ones((1, 3, 4))), [[1, 0, 0]])
