"""Losses as sums and weights, so that the mean is taken once, over all rows, microbatches and devices.

A batch determines the loss of each of its rows: over its classes, or over the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mpt.prompts.prompted import Distilled, Prompted
from mpt.types import Batch, ClassTree, Layout, Output

NO_CLASS = -1e9  # far below any score


class Term(NamedTuple):
    """A loss as a sum and the weight to divide it by: one pair for a whole batch, or one for each row."""

    sum: Float[Array, "*rows"]
    weight: Float[Array, "*rows"]

    def plus(self, other: Term) -> Term:
        """The sum of two losses, and of their weights."""
        return Term(self.sum + other.sum, self.weight + other.weight)

    @property
    def pooled(self) -> Term:
        """This term summed over all rows."""
        return Term(jnp.sum(self.sum), jnp.sum(self.weight))

    @property
    def mean(self) -> Float[Array, ""]:
        """The sum over all rows, divided by their weight."""
        return self.pooled.sum / self.pooled.weight

    def of_prompts(self, index: Int[Array, " rows"], count: int) -> Term:
        """Sums a per-row term by prompt.

        Args:
            index: the prompt of each row.
            count: number of prompts.
        """
        return Term(*(jax.ops.segment_sum(values, index, count) for values in self))


@dataclass(frozen=True)
class Objective:
    """The loss terms that a stage is trained on; call it with a model and a batch to get them by name.

    Attributes:
        terms: computes the terms from a model and a batch; "task" has a sum and a weight for each row.
        weights: computes their weights alone, from the batch and its layout, without the model.
    """

    terms: Callable[[Any, Batch], dict[str, Term]]
    weights: Callable[[Batch, Layout], dict[str, Float[Array, "*rows"]]]

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        return self.terms(model, batch)


def cross_entropy(
    logits: Float[Array, "B L V"], targets: Int[Array, "B L"], mask: Bool[Array, "B L"]
) -> Term:
    """The task loss of each row: -log p(target) in nats, summed over the target tokens under the mask."""
    taken = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return Term(jnp.sum(-taken, axis=1, where=mask), jnp.sum(mask, axis=1, dtype=jnp.float32))


def kl_divergence(
    student: Float[Array, "B L V"], teacher: Float[Array, "B L V"], mask: Bool[Array, "B L"]
) -> Term:
    """KL(teacher ‖ student) of the next-token distributions (Wang et al. 2023, equation 3)."""
    log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(student)
    return _masked(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), mask)


def class_cross_entropy(scores: Float[Array, "B C"], tree: ClassTree) -> Term:
    """The task loss of each row that has classes: -log p(class) in nats, over the row's own classes."""
    own = jnp.maximum(tree.labels, 0)[:, None]
    taken = jnp.take_along_axis(_class_log_p(scores), own, axis=1)[:, 0]
    there = jnp.any(tree.real, axis=1)
    return Term(jnp.where(there, -taken, 0.0), there.astype(jnp.float32))


def class_kl_divergence(student: Float[Array, "B C"], teacher: Float[Array, "B C"], tree: ClassTree) -> Term:
    """KL(teacher ‖ student) of the distributions over the classes of each row."""
    log_p, log_q = _class_log_p(teacher), _class_log_p(student)
    return _masked(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), jnp.any(tree.real, axis=1))


def _class_log_p(scores: Float[Array, "B C"]) -> Float[Array, "B C"]:
    """Normalises scores over the classes; those beyond a row's become finite, as -inf has no gradient."""
    return jax.nn.log_softmax(jnp.maximum(scores, NO_CLASS))


def hidden_mse(
    student: Float[Array, "*any D"], teacher: Float[Array, "*any D"], mask: Bool[Array, "*any"]
) -> Term:
    """Mean squared error of hidden states at the positions under the mask (Wang et al. 2023, equation 4)."""
    error = jnp.square(student.astype(jnp.float32) - teacher.astype(jnp.float32))
    return _masked(error.mean(axis=-1), mask)


def _masked(values: Float[Array, ...], mask: Bool[Array, ...]) -> Term:
    return Term(jnp.sum(values, where=mask), jnp.sum(mask, dtype=jnp.float32))


def _task_terms(model: Prompted, batch: Batch) -> dict[str, Term]:
    """The cross-entropy of each row's target."""
    return {"task": _task(model(batch), batch)}


def _task(output: Output, batch: Batch) -> Term:
    """The cross-entropy of each row's target, over its classes if these are scored, or the vocabulary."""
    term = cross_entropy(output.logits, batch.targets, batch.labelled)
    if batch.classes is None or output.classes is None:
        return term
    return term.plus(class_cross_entropy(output.classes, batch.classes))


def _distillation_terms(model: Distilled, batch: Batch) -> dict[str, Term]:
    """The task loss, and each student's distance from its teacher, whose outputs the batch may contain."""
    student, teacher = model(batch), batch.taught or model.teach(batch)
    return {"task": _task(student, batch), **_distance(student, teacher, batch)}


def _retention_terms(model: Distilled, batch: Batch) -> dict[str, Term]:
    """The task loss, and how much the earlier tasks' prompts have changed: row i uses one of these."""
    earlier = (batch.numbers[0] + jnp.arange(len(batch.numbers))) % model.teachers.shape[0]
    student = model(batch._replace(prompt_index=1 + earlier))
    teacher = model.teach(batch._replace(prompt_index=earlier))
    return _task_terms(model, batch) | _distance(student, teacher, batch)


def _distance(student: Output, teacher: Output, batch: Batch) -> dict[str, Term]:
    """KL divergence of the outputs, and squared error of the hidden states of all stacks together."""
    masks = (batch.text, batch.labelled)  # the encoder's or decoder's text; an encoder-decoder's targets
    hidden = [hidden_mse(*stack) for stack in zip(student.hidden, teacher.hidden, masks)]
    kl = kl_divergence(student.logits, teacher.logits, batch.labelled)
    if batch.classes is not None and student.classes is not None and teacher.classes is not None:
        kl = kl.plus(class_kl_divergence(student.classes, teacher.classes, batch.classes))
    return {
        "kl": kl,
        "hidden": Term(*map(jnp.stack, zip(*hidden))).pooled,
    }


def _task_weights(batch: Batch, layout: Layout) -> dict[str, Float[Array, "*rows"]]:
    """The number of target tokens of each row; 1 if its classes are scored."""
    tokens = jnp.sum(batch.labelled, axis=1, dtype=jnp.float32)
    if batch.classes is None:
        return {"task": tokens}
    return {"task": tokens + jnp.any(batch.classes.real, axis=1).astype(jnp.float32)}


def _distillation_weights(batch: Batch, layout: Layout) -> dict[str, Float[Array, "*rows"]]:
    """The weights of the task; for hidden states of text tokens, and in an encoder-decoder of both."""
    labels = jnp.sum(batch.labelled, dtype=jnp.float32)
    text = jnp.sum(batch.text, dtype=jnp.float32)
    hidden = text + labels if layout == "encoder-decoder" else text
    task = _task_weights(batch, layout)
    return {**task, "kl": jnp.sum(task["task"]), "hidden": hidden}


task_loss = Objective(_task_terms, _task_weights)
"""The task alone, for teachers, target prompts and baselines."""

distillation_loss = Objective(_distillation_terms, _distillation_weights)
"""The task, the teachers' outputs and the teachers' hidden states, for the universal prompt."""

retention_loss = Objective(_retention_terms, _distillation_weights)
"""A new task, while the prompts of earlier tasks keep their outputs on the new task's inputs.

This is Learning without Forgetting (Li & Hoiem, ECCV 2016, section 3), which needs no rows of earlier tasks.
Prompt 0 is that of the new task; prompt 1 + k is compared with teacher k, its copy from before the new task.
The rows of a batch cycle through the earlier prompts, starting at the number of the first row.
"""
