"""Loss terms. Each returns sums and weights; the mean is taken once, over all rows and devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mpt.prompts.prompted import Distilled, Prompted
from mpt.types import Batch, Output


class Term(NamedTuple):
    """A sum and the weight that it is to be divided by, of everything or of each row."""

    sum: Float[Array, "*rows"]
    weight: Float[Array, "*rows"]

    @property
    def pooled(self) -> Term:
        """The one of everything."""
        return Term(jnp.sum(self.sum), jnp.sum(self.weight))

    @property
    def mean(self) -> Float[Array, ""]:
        return self.pooled.sum / self.pooled.weight

    def of_prompts(self, index: Int[Array, " rows"], count: int) -> Term:
        """The one of each of ``count`` prompts, where there is one of each row."""
        return Term(*(jax.ops.segment_sum(part, index, count) for part in self))


def cross_entropy(
    logits: Float[Array, "B L V"], targets: Int[Array, "B L"], mask: Bool[Array, "B L"]
) -> Term:
    """The task loss of each row: -log p(target), in nats, over the label positions under the mask."""
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


def _pooled(terms: Iterable[Term]) -> Term:
    """One term over all positions of several: the texts', and an encoder-decoder's targets'."""
    sums, weights = zip(*terms)
    return Term(jnp.sum(jnp.stack(sums)), jnp.sum(jnp.stack(weights)))


def _masked(values: Float[Array, ...], mask: Bool[Array, ...]) -> Term:
    return Term(jnp.sum(values, where=mask), jnp.sum(mask, dtype=jnp.float32))


def task_loss(model: Prompted, batch: Batch) -> dict[str, Term]:
    """What a teacher, a target prompt or a baseline learns: the task alone, told for each row."""
    return {"task": cross_entropy(model(batch).logits, batch.targets, batch.labelled)}


def distillation_loss(model: Distilled, batch: Batch) -> dict[str, Term]:
    """What the universal prompt learns: the task, the teachers' outputs, their hidden states."""
    student, teacher = model(batch), batch.taught or model.teach(batch)
    return {
        "task": cross_entropy(student.logits, batch.targets, batch.labelled),
        **_likeness(student, teacher, batch),
    }


def retention_loss(model: Distilled, batch: Batch) -> dict[str, Term]:
    """A new task, and what earlier tasks' prompts made of its inputs: no earlier row is needed.

    Learning without Forgetting (Li & Hoiem, ECCV 2016, section 3). Prompt 0 is the new task's; prompt
    1 + k is to stay like teacher k. A batch's rows read these in turn, from one that its first row decides.
    """
    turn = (batch.numbers[0] + jnp.arange(len(batch.numbers))) % model.teachers.shape[0]
    student = model(batch._replace(prompt_index=1 + turn))
    teacher = model.teach(batch._replace(prompt_index=turn))
    return task_loss(model, batch) | _likeness(student, teacher, batch)


def _likeness(student: Output, teacher: Output, batch: Batch) -> dict[str, Term]:
    return {
        "kl": kl_divergence(student.logits, teacher.logits, batch.labelled),
        "hidden": _pooled(map(hidden_mse, student.hidden, teacher.hidden, (batch.text, batch.labelled))),
    }
