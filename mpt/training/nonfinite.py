"""A step whose loss or gradient is not finite is left out, counted, and named."""

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


def is_good(loss: Float[Array, ""], gradient: Any) -> Bool[Array, ""]:
    """Whether both are finite; of the gradient the squares' sum, since Adam's moments overflow as it does."""
    return jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient, squared=True))


def choose(good: Bool[Array, ""], new: State, old: State) -> State:
    """``new`` after a good step, else ``old``."""
    # Not jnp.where: the compiler would fuse it with what makes ``new``, and round that otherwise.
    return jax.lax.cond(good, lambda a, b: a, lambda a, b: b, new, old)


class BadSteps:
    """Counts the steps that are left out.

    Args:
        names: the task of each prompt.
        limit: so many in a row are too many.
        total: how many there have been in the part that was run before.
    """

    def __init__(self, names: Sequence[str], limit: int, total: int = 0):
        self._names, self._limit = names, limit
        self.total, self.row, self.who = total, 0, ""

    @property
    def too_many(self) -> bool:
        return self.row >= self._limit

    def count(self, step: int, losses: Float[np.ndarray, " J"] | None) -> dict[str, float]:
        """Takes note of a step, and returns the figure to write down.

        Args:
            losses: each task's, of a bad step; None of a good one.
        """
        if losses is None:
            self.row = 0
            return {}
        self.row, self.total = self.row + 1, self.total + 1
        bad = [name for name, loss in zip(self._names, losses) if not np.isfinite(loss)]
        self.who = ", ".join(dict.fromkeys(bad or self._names)) or "the only task"
        warn(f"step {step} is left out: loss or gradient is not finite ({self.who}); {self.total} in all")
        return {"bad_steps": self.total}

    def error(self, stage: str, step: int, good: int | None) -> UserError:
        """What to say at the limit; ``good`` is the step of the last good checkpoint."""
        last = "no state before was good" if good is None else f"the last good state is that of step {good}"
        return UserError(
            f"{stage}: loss or gradient was not finite in {self.row} steps in a row, up to step {step} "
            f"({self.who}); {last}. Lower the learning rate or look at the rows, with another --out"
        )
