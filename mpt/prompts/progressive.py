"""Progressive Prompts (Razdaibiedina et al., ICLR 2023)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mpt.models.layers import Weight
from mpt.prompts.prefix import PlainPrompt
from mpt.prompts.soft import PromptParam


class ProgressivePrompt(PlainPrompt):
    """A task's own vectors in front of all earlier tasks', which are frozen: [P_k; ...; P_1] (section 3).

    Args:
        vectors: P_k.
        earlier: P_{k-1} to P_1, end to end.
    """

    def __init__(self, vectors: Float[Array, "1 P D"], earlier: Float[Array, "Q D"]):
        self.vectors, self.earlier = PromptParam(vectors), Weight(earlier)

    def compose(self) -> Float[Array, "1 S D"]:
        return jnp.concatenate([self.vectors[...], self.earlier[...][None]], axis=1)
