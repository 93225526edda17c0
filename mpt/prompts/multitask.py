"""Multitask prompt tuning's decomposition (Wang et al., ICLR 2023, section 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpt.prompts.prefix import PlainPrompt
from mpt.prompts.soft import PromptParam

# The task-specific parts of a universal prompt.
FACTORS = nnx.All(PromptParam, nnx.Not(nnx.PathContains("shared")))


class Words(nnx.Variable):
    """Embedded words of a task: frozen in pretraining, trained in an adaptation."""


class MultitaskPrompt(PlainPrompt):
    """A shared prompt times a low-rank component per task: P_j = P* ∘ Σ_r u_jr v_jrᵀ.

    The paper has rank 1. ``shared`` has a leading axis of 1 in pretraining, where all tasks share
    it, or of J for targets adapted side by side, each with its own copy.

    P_j may be followed by words of each task, such as its instruction: they tell the
    model what the task is, so that the shared part need not contain it (not in the paper).

    Args:
        shared: P*, [1, P, D] or [J, P, D].
        u: [J, P, R].
        v: [J, R, D].
        words: [J, Q, D], if there are any.
        layer: the layer before which all of them enter.
    """

    def __init__(
        self,
        shared: Float[Array, "#J P D"],
        u: Float[Array, "J P R"],
        v: Float[Array, "J R D"],
        words: Float[Array, "J Q D"] | None = None,
        layer: int = 0,
    ):
        self.layer = layer
        self.shared, self.u, self.v = PromptParam(shared), PromptParam(u), PromptParam(v)
        self.words = None if words is None else Words(words)

    @classmethod
    def start(
        cls,
        shared: Float[Array, "P D"],
        tasks: int,
        rank: int,
        key: Array,
        words: Float[Array, "J Q D"] | None = None,
        layer: int = 0,
    ) -> MultitaskPrompt:
        """Every task's prompt starts equal to ``shared``.

        The first component is all ones; each further one has u = 0 and a random v, as in LoRA, so
        that it adds nothing before training and can grow in its own direction. Rank 0, where all tasks have
        the same prompt, has that first component too.

        >>> prompt = MultitaskPrompt.start(jnp.ones((4, 8)), tasks=3, rank=2, key=jax.random.key(0))
        >>> prompt.compose().shape, bool((prompt.compose() == 1).all())
        ((3, 4, 8), True)
        """
        (length, width), rank = shared.shape, max(rank, 1)
        u = jnp.zeros((tasks, length, rank)).at[..., 0].set(1.0)
        v = jax.random.normal(key, (tasks, rank, width)).at[:, 0].set(1.0)
        return cls(shared[None], u, v, words, layer)

    def for_targets(
        self, targets: int, together: bool = False, words: Float[Array, "J Q D"] | None = None
    ) -> MultitaskPrompt:
        """The start of ``targets`` new tasks: P* kept, u and v the mean of the source tasks'.

        Each target has its own copy of P* (section 3.3), or with ``together`` all share one; it is followed
        by its own ``words``.
        """

        def mean(part: PromptParam, count: int = targets) -> Array:
            return jnp.broadcast_to(part[...].mean(axis=0), (count, *part.shape[1:]))

        shared = mean(self.shared, 1 if together else targets)
        return MultitaskPrompt(shared, mean(self.u), mean(self.v), words, self.layer)

    def with_words(self, words: Float[Array, "J Q D"]) -> MultitaskPrompt:
        """The same prompts followed by other words."""
        return MultitaskPrompt(self.shared[...], self.u[...], self.v[...], words, self.layer)

    def compose(self) -> Float[Array, "J S D"]:
        prompts = self.shared[...] * low_rank(self.u, self.v)
        return prompts if self.words is None else jnp.concatenate([prompts, self.words[...]], axis=1)


class ModulatedPrompt(PlainPrompt):
    """The same with another plain prompt in place of P*, such as a low-dimensional one.

    Args:
        base: composes to [1, P, D] or [J, P, D].
        u: [J, P, R].
        v: [J, R, D].
    """

    def __init__(self, base: PlainPrompt, u: Float[Array, "J P R"], v: Float[Array, "J R D"]):
        self.base, self.u, self.v = base, PromptParam(u), PromptParam(v)

    def compose(self) -> Float[Array, "J P D"]:
        return self.base.compose() * low_rank(self.u, self.v)


def low_rank(u: PromptParam, v: PromptParam) -> Float[Array, "J P D"]:
    """Σ_r u_jr v_jrᵀ."""
    return jnp.einsum("jpr,jrd->jpd", u[...], v[...])
