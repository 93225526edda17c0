"""P_j = P* ∘ Σ_r u_jr v_jrᵀ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mpt.methods.ulpt import UltraLowPrompt
from mpt.prompts import ModulatedPrompt, MultitaskPrompt, PromptParam

J, P, D = 3, 4, 5


def random(seed: int, *shape: int):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("copies", [1, J])
def test_composition_is_the_papers_formula(rank, copies):
    prompt = MultitaskPrompt(random(0, copies, P, D), random(1, J, P, rank), random(2, J, rank, D))
    shared, u, v = (np.asarray(part[...], np.float64) for part in (prompt.shared, prompt.u, prompt.v))
    composed = np.asarray(prompt.compose())
    for j in range(J):
        low_rank = sum(np.outer(u[j, :, r], v[j, r]) for r in range(rank))
        np.testing.assert_allclose(composed[j], shared[j % copies] * low_rank, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_every_task_starts_at_the_shared_prompt(rank):
    shared = random(0, P, D)
    start = MultitaskPrompt.start(shared, J, rank, jax.random.key(1))
    np.testing.assert_array_equal(start.compose(), np.stack([shared] * J))


def test_further_components_can_learn_at_the_start():
    """Not both factors of a component may be zero: its gradient would be, too."""
    start = MultitaskPrompt.start(random(0, P, D), J, 3, jax.random.key(1))

    def loss(u):
        return jnp.sum(jnp.square(MultitaskPrompt(start.shared[...], u, start.v[...]).compose()))

    gradient = jax.grad(loss)(start.u[...])
    assert np.abs(gradient).min(axis=(0, 1)).all()


def test_target_starts_at_the_mean_of_the_sources():
    source = MultitaskPrompt(random(0, 1, P, D), random(1, J, P, 2), random(2, J, 2, D))
    target = source.for_targets(2)
    for part, expected in (
        (target.shared, source.shared[...]),
        (target.u, source.u[...].mean(axis=0, keepdims=True)),
        (target.v, source.v[...].mean(axis=0, keepdims=True)),
    ):
        np.testing.assert_allclose(part[...], np.repeat(expected, 2, axis=0), rtol=1e-6)


def test_targets_have_shared_prompts_of_their_own():
    source = MultitaskPrompt(random(0, 1, P, D), random(1, J, P, 1), random(2, J, 1, D))
    assert source.for_targets(2).shared.shape == (2, P, D)


def test_targets_that_learn_together_have_one():
    source = MultitaskPrompt(random(0, 1, P, D), random(1, J, P, 1), random(2, J, 1, D))
    together, apart = source.for_targets(2, together=True), source.for_targets(2)
    assert together.shared.shape == (1, P, D)
    np.testing.assert_array_equal(together.compose(), apart.compose())


def test_any_plain_prompt_can_be_the_shared_part():
    source = MultitaskPrompt(random(0, 1, P, D), random(1, J, P, 2), random(2, J, 2, D))
    base = UltraLowPrompt.start(source.shared[...], D, 0)  # enough dimensions to be it
    found = ModulatedPrompt(base, source.u[...], source.v[...]).compose()
    np.testing.assert_allclose(found, source.compose(), rtol=1e-3, atol=1e-4)


def test_words_stand_after_and_are_not_trained():
    shared, u, v, words = (
        random(i, *shape) for i, shape in enumerate([(1, 4, 6), (2, 4, 1), (2, 1, 6), (2, 3, 6)])
    )
    prompt = MultitaskPrompt(shared, u, v, words)
    np.testing.assert_array_equal(prompt.compose()[:, :4], MultitaskPrompt(shared, u, v).compose())
    np.testing.assert_array_equal(prompt.compose()[:, 4:], words)
    assert "words" not in nnx.state(prompt, PromptParam)
    target = prompt.for_targets(1, words=words[:1])
    np.testing.assert_array_equal(target.compose()[0, 4:], words[0])
