"""Loss terms. Each returns sums and weights; the mean is taken once, over all rows and devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mpt.prompts.prompted import Distilled, Prompted
from mpt.types import Batch, Layout, Output


class Term(NamedTuple):
    """A loss term as a sum and the weight that it is divided by: of all rows together, or of each row."""

    sum: Float[Array, "*rows"]
    weight: Float[Array, "*rows"]

    @property
    def pooled(self) -> Term:
        """This term summed over all rows."""
        return Term(jnp.sum(self.sum), jnp.sum(self.weight))

    @property
    def mean(self) -> Float[Array, ""]:
        """The loss: the sum over all rows, divided by their weight."""
        return self.pooled.sum / self.pooled.weight

    def of_prompts(self, index: Int[Array, " rows"], count: int) -> Term:
        """Sums a per-row term by prompt: ``index`` is each row's prompt, of ``count`` prompts."""
        return Term(*(jax.ops.segment_sum(part, index, count) for part in self))


@dataclass(frozen=True)
class Objective:
    """What a stage learns; called with a model and a batch, it gives the loss terms by name.

    Attributes:
        terms: the terms of a batch; "task" has a sum and a weight for each row.
        weights: the same terms' weights, which depend on the batch and the layout of its rows alone.
    """

    terms: Callable[[Any, Batch], dict[str, Term]]
    weights: Callable[[Batch, Layout], dict[str, Float[Array, "*rows"]]]

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        return self.terms(model, batch)


def cross_entropy(
    logits: Float[Array, "B L V"], targets: Int[Array, "B L"], mask: Bool[Array, "B L"]
) -> Term:
    """The task loss of each row: -log p(target), in nats, summed over the label positions under the mask."""
    taken = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return Term(jnp.sum(-taken, axis=1, where=mask), jnp.sum(mask, axis=1, dtype=jnp.float32))


def kl_divergence(
    student: Float[Array, "B L V"], teacher: Float[Array, "B L V"], mask: Bool[Array, "B L"]
) -> Term:
    """KL(teacher ‖ student) of the output distributions (Wang et al. 2023, equation 3)."""
    log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(student)
    return _masked(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), mask)


def hidden_mse(
    student: Float[Array, "*any D"], teacher: Float[Array, "*any D"], mask: Bool[Array, "*any"]
) -> Term:
    """Mean squared error of hidden states at the text's positions (Wang et al. 2023, equation 4)."""
    error = jnp.square(student.astype(jnp.float32) - teacher.astype(jnp.float32))
    return _masked(error.mean(axis=-1), mask)


def _masked(values: Float[Array, ...], mask: Bool[Array, ...]) -> Term:
    return Term(jnp.sum(values, where=mask), jnp.sum(mask, dtype=jnp.float32))


def _task_terms(model: Prompted, batch: Batch) -> dict[str, Term]:
    return {"task": cross_entropy(model(batch).logits, batch.targets, batch.labelled)}


def _distillation_terms(model: Distilled, batch: Batch) -> dict[str, Term]:
    student, teacher = model(batch), batch.taught or model.teach(batch)
    task = cross_entropy(student.logits, batch.targets, batch.labelled)
    return {"task": task, **_likeness(student, teacher, batch)}


def _retention_terms(model: Distilled, batch: Batch) -> dict[str, Term]:
    turn = (batch.numbers[0] + jnp.arange(len(batch.numbers))) % model.teachers.shape[0]
    student = model(batch._replace(prompt_index=1 + turn))
    teacher = model.teach(batch._replace(prompt_index=turn))
    return _task_terms(model, batch) | _likeness(student, teacher, batch)


def _likeness(student: Output, teacher: Output, batch: Batch) -> dict[str, Term]:
    masks = (batch.text, batch.labelled)  # an encoder-decoder has hidden states of both
    hidden = [hidden_mse(*each) for each in zip(student.hidden, teacher.hidden, masks)]
    return {
        "kl": kl_divergence(student.logits, teacher.logits, batch.labelled),
        "hidden": Term(*(jnp.stack(part) for part in zip(*hidden))).pooled,
    }


def _task_weights(batch: Batch, layout: Layout) -> dict[str, Float[Array, "*rows"]]:
    """The label positions of each row."""
    return {"task": jnp.sum(batch.labelled, axis=1, dtype=jnp.float32)}


def _distillation_weights(batch: Batch, layout: Layout) -> dict[str, Float[Array, "*rows"]]:
    """The label positions; of the hidden states, the text's tokens, and an encoder-decoder's targets too."""
    labels = jnp.sum(batch.labelled, dtype=jnp.float32)
    text = jnp.sum(batch.text, dtype=jnp.float32)
    hidden = text + labels if layout == "encoder-decoder" else text
    return {**_task_weights(batch, layout), "kl": labels, "hidden": hidden}


task_loss = Objective(_task_terms, _task_weights)
"""What a teacher, a target prompt or a baseline learns: the task alone."""

distillation_loss = Objective(_distillation_terms, _distillation_weights)
"""What the universal prompt learns: the task, the teachers' outputs, their hidden states."""

retention_loss = Objective(_retention_terms, _distillation_weights)
"""A new task, and what earlier tasks' prompts made of its inputs: no earlier row is needed.

Learning without Forgetting (Li & Hoiem, ECCV 2016, section 3). Prompt 0 is the new task's; prompt 1 + k is to
stay like teacher k. A batch's rows read these in turn, from one that its first row decides.
"""
