"""What others train with: weight decay, clipping, linear decay; and nothing of it unless asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt, Words
from mpt.prompts.class_head import HeadedPrompt
from mpt.training.optim import Adam, LearningRates, are_still, clipped, learning_rate

J, P, D = 3, 4, 5
LEARNING_RATES = {"vectors": 0.3, "factors": 0.4, "words": 0.5}


def state(prompt) -> nnx.State:
    return nnx.split(prompt, PromptParam)[1]


def soft(scale: float = 1.0, prompts: int = J) -> nnx.State:
    return state(SoftPrompt(scale * jax.random.normal(jax.random.key(0), (J, P, D))[:prompts]))


def run(params, gradients, **options):
    """The parameters after a step for each gradient."""
    optimizer = Adam(**options)(LearningRates.of(LEARNING_RATES, steps=len(gradients), warmup=0.0))
    opt_state = optimizer.init(params)
    for gradient in gradients:
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params


def leaf(tree) -> np.ndarray:
    return np.asarray(jax.tree.leaves(tree)[0])


def test_each_group_of_parameters_has_its_own_learning_rate():
    """Adam's first step moves each number by its learning rate."""
    prompt = MultitaskPrompt.start(jnp.ones((P, D)), J, 1, jax.random.key(0), jnp.ones((J, 2, D)))
    params = nnx.split(prompt, nnx.Any(PromptParam, Words), ...)[1]
    moved = run(params, [jax.tree.map(jnp.ones_like, params)])
    steps = {name: float((1 - part[...]).max()) for name, part in moved.items()}
    expected = {
        "shared": LEARNING_RATES["vectors"],
        "u": LEARNING_RATES["factors"],
        "v": LEARNING_RATES["factors"],
        "words": LEARNING_RATES["words"],
    }
    assert steps == pytest.approx(expected, rel=1e-4)


def test_defaults_are_plain_adam():
    params, gradients = soft(), [soft(2.0), soft(-1.0)]
    schedule = optax.warmup_cosine_decay_schedule(0.3, 0.3, 0, 3)
    optimizer = optax.adam(schedule)
    opt_state, expected = optimizer.init(params), params
    with jax.numpy_dtype_promotion("standard"):
        for gradient in gradients:
            updates, opt_state = optimizer.update(gradient, opt_state, expected)
            expected = optax.apply_updates(expected, updates)
    np.testing.assert_array_equal(leaf(run(params, gradients)), leaf(expected))


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_schedules_are_those_of_optax(warmup):
    steps = 12
    cosine = optax.warmup_cosine_decay_schedule(0.3 / max(warmup, 1), 0.3, warmup, steps + 1)
    rise, fall = (
        optax.linear_schedule(0.3 / max(warmup, 1), 0.3, warmup),
        optax.linear_schedule(0.3, 0.0, steps + 1 - warmup),
    )
    linear = optax.join_schedules([rise, fall], [warmup])
    for count in range(steps + 3):
        for decay, expected in (("cosine", cosine), ("linear", linear)):
            found = learning_rate(np.float32(0.3), np.int32(warmup), np.int32(steps), decay, count)
            assert float(found) == pytest.approx(float(expected(count)), rel=1e-5, abs=1e-8)


def test_weight_decay_is_in_proportion_to_the_learning_rate():
    params = soft()
    still = [jax.tree.map(jnp.zeros_like, params)]
    np.testing.assert_allclose(
        leaf(run(params, still, weight_decay=0.1)), leaf(params) * (1 - 0.03), rtol=1e-6
    )


def test_parameters_are_still_where_none_of_theirs_has_a_learning_rate():
    def still(prompt, **peak) -> bool:
        every = {"vectors": 0.0, "factors": 0.0, "words": 0.0} | peak
        return are_still(state(prompt), LearningRates.of(every, steps=4, warmup=0.1, scale=(1.0, 2.0)))

    alone = SoftPrompt(jnp.ones((J, P, D)))
    assert still(alone) and still(alone, factors=0.1) and not still(alone, vectors=0.1)
    several = MultitaskPrompt.start(jnp.ones((P, D)), J, 1, jax.random.key(0))
    assert still(several, words=0.1) and not still(several, factors=0.1)


def test_linear_decay_falls_evenly_to_zero():
    params, same = soft(), soft(2.0)
    moved = [leaf(run(params, [same] * n, decay="linear")) for n in (1, 2)]
    first, second = np.abs(moved[0] - leaf(params)).mean(), np.abs(moved[1] - leaf(params)).mean()
    assert first == pytest.approx(0.3, rel=1e-4)
    assert second == pytest.approx(0.3 + 0.3 * 2 / 3, rel=1e-4)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_independent_prompts_are_clipped_as_if_each_were_alone(scale):
    """Side by side, a prompt's gradient is a J-th of what it is alone."""
    together = clipped(1.0).update(soft(scale / J), optax.EmptyState())[0]
    for j in range(J):
        alone = jax.tree.map(lambda part: part[j : j + 1], soft(scale))  # noqa: B023
        expected = clipped(1.0).update(alone, optax.EmptyState())[0]
        np.testing.assert_allclose(J * leaf(together)[j], leaf(expected)[0], rtol=1e-5)
        assert np.linalg.norm(leaf(expected)) == pytest.approx(min(1, np.linalg.norm(leaf(alone))), rel=1e-5)


def test_prompts_with_class_heads_are_clipped_one_by_one():
    def headed(size: float, count: int) -> HeadedPrompt:
        sizes = jnp.asarray([size, 10.0, 1.0][:count])[:, None, None] / count
        return HeadedPrompt.start(
            SoftPrompt(sizes * jnp.ones((count, P, D))), sizes * jnp.ones((count, 2, D))
        )

    def vectors(size: float, count: int):
        gradient = nnx.state(headed(size, count), PromptParam)
        return count * clipped(1.0).update(gradient, optax.EmptyState())[0]["prompt"]["vectors"][...][0]

    np.testing.assert_allclose(vectors(0.01, 3), vectors(0.01, 1), rtol=1e-5)  # whatever stands beside it
    assert np.linalg.norm(vectors(100.0, 3)) == pytest.approx(1, rel=1e-5)


def test_prompts_that_share_parameters_are_clipped_together():
    prompt = MultitaskPrompt.start(jnp.full((P, D), 10.0), J, 1, jax.random.key(0))
    found = clipped(1.0).update(state(prompt), optax.EmptyState())[0]
    assert optax.global_norm(found) == pytest.approx(1, rel=1e-5)
    shared, u, v = (np.abs(np.asarray(part)).max() for part in jax.tree.leaves(found))
    assert shared == pytest.approx(10 * u, rel=1e-5) and u == pytest.approx(v)
