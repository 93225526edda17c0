"""A step whose loss or gradient is not finite is left out, counted, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mpt.errors import UserError, warn

State = TypeVar("State")


class Health(NamedTuple):
    """Whether a step is good.

    Attributes:
        good: loss and gradient are finite.
        parts: the same of each leaf of the gradient along its first axis, which is the prompts' where
            there are several.
    """

    good: Bool[Array, ""]
    parts: list[Bool[Array, " _"]]

    @classmethod
    def of(cls, loss: Float[Array, ""], gradient: Any) -> Health:
        """By the squares' sums: where they overflow, so do Adam's moments."""

        def sound(leaf: Float[Array, ...]) -> Bool[Array, " _"]:
            return jnp.isfinite(jnp.sum(jnp.square(leaf), axis=range(1, leaf.ndim)))

        parts = [sound(leaf) for leaf in jax.tree.leaves(gradient)]
        return cls(jnp.isfinite(loss) & jnp.stack([part.all() for part in parts]).all(), parts)

    def choose(self, new: State, old: State) -> State:
        """``new`` if the step is good, else ``old``."""
        # Not jnp.where: the compiler would fuse it with what makes ``new``, and round that otherwise.
        return jax.lax.cond(self.good, lambda a, b: a, lambda a, b: b, new, old)


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

    def count(self, step: int, health: Health) -> dict[str, float]:
        """Takes note of a step, and returns the figure to write down; none if it is good."""
        if bool(health.good):
            self.row = 0
            return {}
        self.row, self.total = self.row + 1, self.total + 1
        own = [np.asarray(part) for part in health.parts if part.size == len(self._names)]
        bad = [name for name, *good in zip(self._names, *own) if not all(good)]
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
