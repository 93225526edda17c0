"""Losses and prompt gradients against the naive formulation, in torch (golden/naive.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import kept, normal
from golden.inputs import LOSS_ROWS as ROWS
from golden.inputs import PROMPT, TASKS, WEIGHTS, J, parts
from golden.tiny import WIDTH

from mpt.data.batches import collate
from mpt.loading.hf import load_pretrained
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.training.losses import (
    Term,
    cross_entropy,
    distillation_loss,
    hidden_mse,
    kl_divergence,
    retention_loss,
    task_loss,
)


def value_and_gradients(
    model, objective, weights, rows=ROWS, tasks=TASKS
) -> tuple[float, dict[str, np.ndarray]]:
    """Our loss of one batch, and its gradient for each part of the prompt."""
    graph, trainable, frozen = nnx.split(model, PromptParam, ...)
    batch = jax.tree.map(jnp.asarray, collate(rows, tasks))

    def loss(trainable):
        terms = objective(nnx.merge(graph, trainable, frozen), batch)
        return sum(weights[name] * term.mean for name, term in terms.items())

    value, gradient = jax.value_and_grad(loss)(trainable)
    return float(value), {str(path[-1]): leaf[...] for path, leaf in nnx.to_flat_state(gradient)}


def close(ours, theirs) -> None:
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def naive(kind: str, loss: float, gradients: dict[str, np.ndarray]) -> None:
    """Holds a loss, and its gradient for each part of a prompt, to the naive ones."""
    theirs = kept("losses", kind)
    assert loss == pytest.approx(theirs.pop("loss"), rel=1e-5)
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        close(gradient, theirs[name])


def student() -> MultitaskPrompt:
    return MultitaskPrompt(*(jnp.asarray(parts()[name]) for name in ("shared", "u", "v")))


def test_prompt_tuning_gradient_is_the_naive_one(pretrained):
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(parts()["teachers"])))
    naive("task", *value_and_gradients(model, task_loss, {"task": 1.0}))


def test_distillation_gradients_are_the_naive_ones(pretrained):
    model = Distilled(pretrained.backbone, student(), jnp.asarray(parts()["teachers"]))
    naive("distillation", *value_and_gradients(model, distillation_loss, WEIGHTS))


def test_retention_gradients_are_the_naive_ones(pretrained):
    """Rows read the new task's prompt, 0, and in turn those of two earlier tasks, 1 and 2."""
    model = Distilled(pretrained.backbone, student(), jnp.asarray(parts()["teachers"][:2]))
    rows = [ROWS[0]._replace(number=5), *ROWS[1:]]
    naive("retention", *value_and_gradients(model, retention_loss, WEIGHTS, rows, [0] * len(rows)))


def test_student_equal_to_its_teachers_has_nothing_to_learn_from_them(pretrained):
    teachers = jnp.asarray(normal(5, J, PROMPT, WIDTH, scale=0.1))
    model = Distilled(pretrained.backbone, SoftPrompt(teachers), teachers)
    loss, gradients = value_and_gradients(model, distillation_loss, {"task": 0.0, "kl": 1.0, "hidden": 1.0})
    assert loss == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(gradients["vectors"], 0.0, atol=1e-6)


def test_loss_of_each_prompt_is_that_of_its_own_rows(pretrained):
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(normal(8, J, PROMPT, WIDTH, scale=0.1))))

    def term(chosen: list[int]) -> Term:
        batch = collate([ROWS[n] for n in chosen], [TASKS[n] for n in chosen])
        batch = jax.tree.map(jnp.asarray, batch)
        return task_loss(model, batch)["task"].of_prompts(batch.prompt_index, J)

    together = term([0, 1, 2, 3])
    for j in range(J):
        alone = term([n for n, task in enumerate(TASKS) if task == j])
        np.testing.assert_allclose([together.sum[j], together.weight[j]], np.stack(alone)[:, j], rtol=1e-5)
        assert alone.sum.sum() == alone.sum[j]


def test_terms_leave_padding_out():
    mask = jnp.array([[True, False], [True, True]])
    logits, teacher = (jnp.asarray(normal(seed, 2, 2, 7, scale=0.1)) for seed in (6, 7))
    targets = jnp.array([[1, 0], [2, 3]])
    junk = jnp.where(mask[..., None], logits, 1e3)
    for clean, padded in (
        (cross_entropy(logits, targets, mask), cross_entropy(junk, targets, mask)),
        (kl_divergence(logits, teacher, mask), kl_divergence(junk, teacher, mask)),
        (hidden_mse(logits, teacher, mask), hidden_mse(junk, teacher, mask)),
    ):
        assert clean.pooled.weight == 3
        np.testing.assert_allclose(clean.sum, padded.sum, rtol=1e-6)


def test_kl_goes_from_teacher_to_student():
    """KL(p ‖ q) of p = (1/4, 3/4) and q = (1/2, 1/2)."""
    teacher, student = jnp.log(jnp.array([[[0.25, 0.75]]])), jnp.zeros((1, 1, 2))
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    found = kl_divergence(student, teacher, jnp.ones((1, 1), bool))
    np.testing.assert_allclose(found.mean, expected, rtol=1e-6)


def test_mean_is_taken_once():
    assert Term(jnp.array(6.0), jnp.array(4.0)).mean == 1.5


@pytest.mark.parametrize("objective", [task_loss, distillation_loss, retention_loss])
@pytest.mark.parametrize("kind", ["tiny_model", "tiny_t5"])
def test_weights_of_the_batch_are_those_of_the_terms(objective, kind, request):
    """What a mean is divided by is known from the batch alone."""
    backbone = load_pretrained(str(request.getfixturevalue(kind))).backbone
    teachers = jnp.asarray(normal(5, J, PROMPT, backbone.embedding.shape[1], scale=0.1))
    prompts = jnp.concatenate([teachers[:1], teachers])
    model = Distilled(backbone, SoftPrompt(prompts), teachers)
    batch = jax.tree.map(jnp.asarray, collate(ROWS, TASKS, backbone.layout))
    terms, weights = objective(model, batch), objective.weights(batch, backbone.layout)
    assert terms.keys() == weights.keys()
    for name, term in terms.items():
        np.testing.assert_array_equal(weights[name], term.weight)
