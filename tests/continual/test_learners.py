"""Learners start where their papers say, change what they may, and keep the rest bit for bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mpt.continual_learning.learners import FactorLearner, NaiveLearner, ProgressiveLearner, SharedLearner
from mpt.prompts import MultitaskPrompt, SoftPrompt

SOURCES, P, D, R = 3, 4, 5, 2


def random(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def universal() -> MultitaskPrompt:
    return MultitaskPrompt(random(0, 1, P, D), random(1, SOURCES, P, R), random(2, SOURCES, R, D))


def train(lesson, seed: int):
    """A lesson's prompt with all that may be trained moved, and its arrays used up as training does."""
    graph, trainable, frozen = nnx.split(lesson.prompt, lesson.trainable, ...)
    noise = [random(seed + i, *leaf.shape) for i, leaf in enumerate(jax.tree.leaves(trainable))]
    noise = jax.tree.unflatten(jax.tree.structure(trainable), noise)
    moved = jax.tree.map(lambda old, new: old + new, trainable, noise)
    for leaf in jax.tree.leaves(trainable):
        leaf.delete()
    trained = nnx.merge(graph, moved, frozen)
    return trained if isinstance(trained, MultitaskPrompt) else SoftPrompt(trained.compose())


def learn(learner, count: int):
    """The learners after 0, 1, ... tasks."""
    found = [learner]
    for place in range(count):
        found.append(found[-1].learned(train(found[-1].lesson(place), 10 * place)))
    return found


def product(shared, u, v) -> np.ndarray:
    return np.asarray(shared) * np.einsum("pr,rd->pd", np.asarray(u), np.asarray(v))


def test_factors_leave_the_shared_prompt_and_earlier_tasks_as_they_were(universal):
    learners = learn(FactorLearner(universal), 3)
    for place in range(3):
        kept = [np.asarray(later.prompt(place)) for later in learners[place + 1 :]]
        for later in kept:
            np.testing.assert_array_equal(later, kept[0])
    np.testing.assert_array_equal(learners[-1].tasks[2].shared[...], universal.shared[...])


def test_factors_start_from_the_mean_of_all_so_far(universal):
    learners = learn(FactorLearner(universal), 2)
    u, v = (
        np.concatenate([getattr(universal, name)[...], *(getattr(t, name)[...] for t in learners[2].tasks)])
        for name in "uv"
    )
    expected = product(universal.shared[0], u.mean(axis=0), v.mean(axis=0))
    assert len(u) == SOURCES + 2
    np.testing.assert_allclose(learners[2].prompt(2), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(learners[2].prompt(2), learners[2].prompt(7))


def test_shared_prompt_learns_on_and_its_teachers_do_not(universal):
    learners = learn(SharedLearner(universal), 3)
    assert learners[0].lesson(0).teachers is None
    assert learners[0].lesson(0).prompt.compose().shape == (1, P, D)
    lesson = learners[2].lesson(2)
    assert lesson.prompt.compose().shape == (3, P, D)
    # What a task's prompt was when it had just been learned, whatever it is now.
    for place in range(2):
        np.testing.assert_array_equal(lesson.teachers[place], learners[place + 1].prompt(place))
    assert not np.allclose(learners[3].prompt(0), learners[1].prompt(0))
    # Prompt 0 is the new one; the others are the earlier tasks', in order, as they are now.
    for place in range(2):
        np.testing.assert_allclose(lesson.prompt.compose()[1 + place], learners[2].prompt(place), rtol=1e-6)


def test_learned_shared_prompt_is_what_was_trained(universal):
    before, after = learn(SharedLearner(universal), 2)[1:]
    trained = train(before.lesson(1), 10)
    np.testing.assert_allclose(after.prompt(1), trained.compose()[0], rtol=1e-6)
    np.testing.assert_allclose(after.prompt(0), trained.compose()[1], rtol=1e-6)
    np.testing.assert_array_equal(after.universal.shared[...], trained.shared[...])
    np.testing.assert_array_equal(after.universal.u[...], universal.u[...])


def test_progressive_prompts_stand_in_front_of_earlier_ones():
    starts = random(3, 3, P, D)
    learners = learn(ProgressiveLearner(starts), 3)
    prompts = [np.asarray(learners[3].prompt(place)) for place in range(3)]
    assert [len(prompt) for prompt in prompts] == [P, 2 * P, 3 * P]
    np.testing.assert_array_equal(prompts[1][P:], prompts[0])
    np.testing.assert_array_equal(prompts[2][P:], prompts[1])
    for place in range(3):
        np.testing.assert_array_equal(learners[place + 1].prompt(place), prompts[place])
    np.testing.assert_array_equal(learners[1].prompt(2), np.concatenate([starts[2], prompts[0]]))


def test_progressive_prompts_train_the_new_vectors_alone():
    lesson = learn(ProgressiveLearner(random(3, 3, P, D)), 2)[2].lesson(2)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(lesson.prompt, lesson.trainable))) == P * D


def test_naive_tuning_has_one_prompt_for_all():
    start = random(4, P, D)
    learners = learn(NaiveLearner(start), 2)
    np.testing.assert_array_equal(learners[0].prompt(5), start)
    last = learners[2].prompt(1)
    assert not np.allclose(last, learners[1].prompt(0))
    for place in (0, 2):
        np.testing.assert_array_equal(learners[2].prompt(place), last)
