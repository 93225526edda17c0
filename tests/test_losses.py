"""Losses and prompt gradients against the naive formulation, in torch.

Naive: every row by itself, its prompt in front of its embeddings, no padding, logits everywhere.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from mpt.data.batches import collate
from mpt.data.tokenise import Row
from mpt.losses import (
    Term,
    cross_entropy,
    distillation_loss,
    hidden_mse,
    kl_divergence,
    retention_loss,
    task_loss,
)
from mpt.models.prompted import Distilled, Prompted
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt

J, P, D, RANK = 3, 4, 32, 2
# Rows of mixed tasks and lengths; the last two have targets of several tokens.
ROWS = [Row([5, 6, 7, 8], [9]), Row([10, 11], [12]), Row([3] * 9, [4, 5, 6]), Row([20, 21], [22, 23])]
TASKS = [2, 0, 0, 1]
WEIGHTS = {"task": 1.0, "kl": 0.9, "hidden": 0.7}


@pytest.fixture(scope="module")
def naive(tiny_model):
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def random(seed: int, *shape: int, scale: float = 0.1) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


@pytest.fixture(scope="module")
def parts() -> dict[str, np.ndarray]:
    return {
        "shared": random(0, 1, P, D),
        "u": random(1, J, P, RANK, scale=1.0),
        "v": random(2, J, RANK, D, scale=1.0),
        "teachers": random(3, J, P, D),
    }


def read(model, prompt: torch.Tensor, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """One row's logits where its targets are predicted, and its text's final hidden states."""
    ids = torch.tensor([*row.inputs, *row.targets[:-1]])
    embeddings = torch.cat([prompt, model.get_input_embeddings()(ids)])[None]
    hidden = model.model(inputs_embeds=embeddings).last_hidden_state[0]
    logits = model.lm_head(hidden)
    first = len(prompt) + len(row.inputs) - 1
    return logits[first : first + len(row.targets)], hidden[len(prompt) :]


def naive_task_loss(model, prompts: torch.Tensor, tasks=TASKS) -> torch.Tensor:
    losses = [
        -read(model, prompts[task], row)[0].log_softmax(-1)[range(len(row.targets)), row.targets]
        for row, task in zip(ROWS, tasks)
    ]
    return torch.cat(losses).mean()


def naive_likeness(model, students, teachers) -> torch.Tensor:
    """The weighted KL and MSE of what each row's student and teacher make of it."""
    kl, squares = [], []
    for row, student, teacher in zip(ROWS, students, teachers):
        logits, hidden = read(model, student, row)
        with torch.no_grad():
            teacher_logits, teacher_hidden = read(model, teacher, row)
        p = teacher_logits.softmax(-1)
        kl.append((p * (p.log() - logits.log_softmax(-1))).sum(-1))
        squares.append((hidden - teacher_hidden) ** 2)
    return WEIGHTS["kl"] * torch.cat(kl).mean() + WEIGHTS["hidden"] * torch.cat(squares).mean()


def naive_distillation_loss(model, students: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    likeness = naive_likeness(model, students[TASKS], teachers[TASKS])
    return WEIGHTS["task"] * naive_task_loss(model, students) + likeness


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


def test_prompt_tuning_gradient_is_the_naive_one(pretrained, naive):
    vectors = random(4, J, P, D)
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(vectors)))
    loss, gradients = value_and_gradients(model, task_loss, {"task": 1.0})
    prompts = torch.tensor(vectors, requires_grad=True)
    expected = naive_task_loss(naive, prompts)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert set(gradients) == {"vectors"}
    close(gradients["vectors"], prompts.grad)


def test_distillation_gradients_are_the_naive_ones(pretrained, naive, parts):
    student = MultitaskPrompt(*(jnp.asarray(parts[name]) for name in ("shared", "u", "v")))
    model = Distilled(pretrained.backbone, student, jnp.asarray(parts["teachers"]))
    loss, gradients = value_and_gradients(model, distillation_loss, WEIGHTS)
    tensors = {name: torch.tensor(part, requires_grad=name != "teachers") for name, part in parts.items()}
    low_rank = sum(tensors["u"][:, :, r, None] * tensors["v"][:, r, None, :] for r in range(RANK))
    expected = naive_distillation_loss(naive, tensors["shared"] * low_rank, tensors["teachers"])
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert set(gradients) == {"shared", "u", "v"}
    for name, gradient in gradients.items():
        close(gradient, tensors[name].grad)


def test_retention_gradients_are_the_naive_ones(pretrained, naive, parts):
    """Rows read the new task's prompt, 0, and in turn those of two earlier tasks, 1 and 2."""
    student = MultitaskPrompt(*(jnp.asarray(parts[name]) for name in ("shared", "u", "v")))
    model = Distilled(pretrained.backbone, student, jnp.asarray(parts["teachers"][:2]))
    rows = [ROWS[0]._replace(number=5), *ROWS[1:]]
    loss, gradients = value_and_gradients(model, retention_loss, WEIGHTS, rows, [0] * len(rows))
    turn = torch.tensor([1, 0, 1, 0])  # from 5, an odd number, on
    tensors = {name: torch.tensor(part, requires_grad=name != "teachers") for name, part in parts.items()}
    low_rank = sum(tensors["u"][:, :, r, None] * tensors["v"][:, r, None, :] for r in range(RANK))
    students = tensors["shared"] * low_rank
    expected = WEIGHTS["task"] * naive_task_loss(naive, students, [0] * len(rows))
    expected = expected + naive_likeness(naive, students[1 + turn], tensors["teachers"][turn])
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients.items():
        close(gradient, tensors[name].grad)


def test_student_equal_to_its_teachers_has_nothing_to_learn_from_them(pretrained):
    teachers = jnp.asarray(random(5, J, P, D))
    model = Distilled(pretrained.backbone, SoftPrompt(teachers), teachers)
    loss, gradients = value_and_gradients(model, distillation_loss, {"task": 0.0, "kl": 1.0, "hidden": 1.0})
    assert loss == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(gradients["vectors"], 0.0, atol=1e-6)


def test_loss_of_each_prompt_is_that_of_its_own_rows(pretrained):
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(random(8, J, P, D))))

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
    logits, teacher = jnp.asarray(random(6, 2, 2, 7)), jnp.asarray(random(7, 2, 2, 7))
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
