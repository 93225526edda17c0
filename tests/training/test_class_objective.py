"""Losses over class words and their gradients, against one row per class and a softmax over its log p."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import normal, tiny

from mpt.config.options import TrainConfig
from mpt.data.batches import Sizes
from mpt.data.mixture import training_batches
from mpt.loading.hf import load_pretrained
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Distilled
from mpt.training.losses import distillation_loss, retention_loss, task_loss
from mpt.training.stage import Lengths
from mpt.training.teacher_cache import TeacherCache
from mpt.types import Row

J, P = 2, 3
LONG, SHORT = ([20], [21, 22, 23], [21, 24]), ([20], [25])
ROWS = [
    Row([5, 6, 7, 8], [21, 24], LONG, 2, number=0),
    Row([9, 10], [12, 13, 14], number=1),
    Row([3, 4, 6], [20], SHORT, 0, number=2),
    Row([11, 5], [20], LONG, 0, number=3, scoring="mean"),
]
TASKS = [0, 1, 1, 0]
WEIGHTS = {"task": 1.0, "kl": 0.7, "hidden": 0.0}


@pytest.fixture(scope="module", params=["tiny_model", "tiny_t5"])
def model(request) -> Distilled:
    backbone = load_pretrained(str(request.getfixturevalue(request.param))).backbone
    vectors, teachers = (
        jnp.asarray(normal(seed, J, P, backbone.embedding.shape[1], scale=0.3)) for seed in (0, 1)
    )
    return Distilled(backbone, SoftPrompt(vectors), teachers)


def of(model: Distilled, rows):
    layout = model.backbone.layout
    return tiny.collate(rows, TASKS[: len(rows)], layout, Sizes.of(rows, layout, classes=True))


def gradient(model: Distilled, loss) -> tuple[float, np.ndarray]:
    """The loss of a model and its gradient for the prompt."""
    graph, trainable, frozen = nnx.split(model, PromptParam, ...)
    value, found = jax.jit(jax.value_and_grad(lambda part: loss(nnx.merge(graph, part, frozen))))(trainable)
    return float(value), np.asarray(jax.tree.leaves(found)[0])


def weighted(terms) -> jax.Array:
    return sum(WEIGHTS[name] * term.mean for name, term in terms.items())


def naive(model: Distilled, rows) -> jax.Array:
    """The task and KL, from the logits of each class's own row and of free text."""
    single = [
        (i, row if choice is None else row._replace(targets=choice))
        for i, row in enumerate(rows)
        for choice in row.choices or [None]
    ]
    batch = tiny.collate([row for _, row in single], [TASKS[i] for i, _ in single], model.backbone.layout)
    log_q, log_p = (jax.nn.log_softmax(out.logits) for out in (model(batch), model.teach(batch)))
    task = kl = weight = 0.0
    for i, row in enumerate(rows):
        own = [k for k, (of_row, _) in enumerate(single) if of_row == i]
        if not row.choices:
            length = len(row.targets)
            q, p = (x[own[0], :length] for x in (log_q, log_p))
            task -= sum(q[step, token] for step, token in enumerate(row.targets))
            kl += jnp.sum(jnp.exp(p) * (p - q))
            weight += length
            continue
        scores = []
        for x in (log_q, log_p):
            sums = [sum(x[k, step, token] for step, token in enumerate(single[k][1].targets)) for k in own]
            lengths = [len(word) if row.scoring == "mean" else 1 for word in row.choices]
            scores.append(jax.nn.log_softmax(jnp.stack([s / n for s, n in zip(sums, lengths)])))
        q, p = scores
        task, kl, weight = task - q[row.label], kl + jnp.sum(jnp.exp(p) * (p - q)), weight + 1.0
    return (WEIGHTS["task"] * task + WEIGHTS["kl"] * kl) / weight


@pytest.mark.parametrize("rows", [ROWS, ROWS[2:3]], ids=["mixed", "single tokens"])
def test_gradient_is_that_of_one_row_per_class(model, rows):
    batch = of(model, rows)
    ours = gradient(model, lambda model: weighted(distillation_loss(model, batch)))
    theirs = gradient(model, lambda model: naive(model, rows))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-5 * np.abs(theirs[1]).max())


@pytest.mark.parametrize("objective", [task_loss, distillation_loss, retention_loss])
def test_weights_of_the_batch_are_those_of_the_terms(model, objective):
    batch = of(model, ROWS)
    terms, weights = objective(model, batch), objective.weights(batch, model.backbone.layout)
    assert terms.keys() == weights.keys()
    for name, term in terms.items():
        np.testing.assert_array_equal(weights[name], term.weight)
        assert np.isfinite(term.mean)


def test_kept_teachers_say_the_same_of_the_classes(model, tmp_path):
    rows = [[ROWS[0], ROWS[3]], [ROWS[1], ROWS[2]]]
    train = TrainConfig(steps=2, batch_size=4, objective="classes")
    cache = TeacherCache(tmp_path, model.backbone, model.teachers[...], rows, classes=True)
    for batch in training_batches(rows, train, 0, model.backbone.layout):
        kept = jax.tree.map(lambda array: jnp.asarray(array[0]), cache.attach(batch))
        told, computed = (
            distillation_loss(model, kept._replace(taught=taught)) for taught in (kept.taught, None)
        )
        for name in ("kl", "hidden"):
            assert float(told[name].mean) == pytest.approx(float(computed[name].mean), rel=1e-4)


def test_microbatches_make_the_loss_of_the_whole(model):
    rows = [[ROWS[0], ROWS[3]], [ROWS[1], ROWS[2]]]
    sums = []
    for parts in (1, 2):
        train = TrainConfig(steps=1, batch_size=4, microbatches=parts, objective="classes")
        batch = training_batches(rows, train, 0, model.backbone.layout)[0]
        each = [
            task_loss(model, jax.tree.map(lambda array, i=i: jnp.asarray(array[i]), batch))["task"].pooled
            for i in range(parts)
        ]
        sums.append((sum(term.sum for term in each), sum(term.weight for term in each)))
    np.testing.assert_allclose(*sums, rtol=1e-5)


def test_cost_counts_the_nodes_in_place_of_the_target():
    lengths = Lengths.of([ROWS[0]], "decoder")
    assert (lengths.text, lengths.labels, lengths.nodes) == (5, 2, 2)
    scored = Lengths.of([ROWS[0]._replace(choices=([20], [21, 22, 23]))], "decoder").scored("decoder")
    assert (scored.text, scored.labels) == (4 + 2, 1 + 2)
    free = Lengths.of([ROWS[1]], "decoder")
    assert free.scored("decoder") == free
