"""Steps whose loss or gradient is not finite: they change nothing and are counted; too many end the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from mpt.errors import UserError, warn

State = TypeVar("State")


def is_finite(loss: Float[Array, ""], gradient: Any) -> Bool[Array, ""]:
    """Whether the loss and the sum of the gradient's squares are finite.

    A finite gradient is not enough: where its squares overflow, so do Adam's second moments.
    """
    return jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient, squared=True))


def select(finite: Bool[Array, ""], new: State, old: State) -> State:
    """The ``new`` state after a finite step, else the ``old`` one."""
    # Not jnp.where: the compiler would fuse it with what computes ``new``, and round that otherwise.
    return jax.lax.cond(finite, lambda a, b: a, lambda a, b: b, new, old)


class NonFiniteSteps:
    """Counts the steps whose loss or gradient is not finite.

    Args:
        tasks: the task name of each prompt.
        limit: the run ends after this many such steps in a row.
        total: such steps in the part of the run before an interruption.

    Attributes:
        total: such steps of the whole run.
        in_a_row: such steps since the last finite one.
        affected: names of the tasks whose loss was not finite in the last such step; all, if none stands out.
    """

    def __init__(self, tasks: Sequence[str], limit: int, total: int = 0):
        self._tasks, self._limit = tasks, limit
        self.total, self.in_a_row, self.affected = total, 0, ""

    @property
    def too_many(self) -> bool:
        """Whether the run has to end."""
        return self.in_a_row >= self._limit

    def count(self, step: int, losses: Float[np.ndarray, " J"] | None) -> dict[str, float]:
        """Counts a step, and returns the metrics that it adds to the step's line; warns of a non-finite one.

        Args:
            losses: the task loss of each prompt in a non-finite step; None for a finite step.
        """
        if losses is None:
            self.in_a_row = 0
            return {}
        self.in_a_row, self.total = self.in_a_row + 1, self.total + 1
        affected = [task for task, loss in zip(self._tasks, losses) if not np.isfinite(loss)]
        self.affected = ", ".join(dict.fromkeys(affected or self._tasks)) or "the only task"
        warn(
            f"step {step} is left out: loss or gradient is not finite ({self.affected}); {self.total} in all"
        )
        return {"bad_steps": self.total}

    def error(self, stage: str, step: int, last_checkpoint: int | None) -> UserError:
        """The error that ends a run at the limit.

        Args:
            stage: the folder of the stage.
            step: the last step.
            last_checkpoint: the step of the newest checkpoint from before these steps; None without one.
        """
        last = f"the last good state is that of step {last_checkpoint}"
        last = "there is no good state before" if last_checkpoint is None else last
        return UserError(
            f"{stage}: loss or gradient was not finite in {self.in_a_row} steps in a row, up to step {step} "
            f"({self.affected}); {last}. Lower the learning rate or check the rows, and give another --out"
        )
