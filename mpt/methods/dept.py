"""Decomposed prompt tuning (DePT; Shi & Lipani, ICLR 2024): a short prompt, and moved embeddings."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpt.config.methods import DeptConfig
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.backbone import Backbone
from mpt.prompts.prefix import Prefix, of_inputs, places
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import saved_as
from mpt.prompts.soft import PromptParam
from mpt.types import Batch


@saved_as("dept")
class DecomposedPrompt(nnx.Module):
    """Vectors in front of the input, whose i-th token's embedding moves by (A_j B_j)_i (section 2.2).

    Args:
        vectors: [J, P, D].
        a: A, [J, S, R], S being the longest input.
        b: B, [J, R, D].
    """

    layer: int = 0

    def __init__(self, vectors: Float[Array, "J P D"], a: Float[Array, "J S R"], b: Float[Array, "J R D"]):
        self.vectors, self.a, self.b = PromptParam(vectors), PromptParam(a), PromptParam(b)

    @classmethod
    def start(cls, vectors: Float[Array, "J P D"], longest: int, rank: int, key: Array) -> DecomposedPrompt:
        """The initial shift is 0: A is random, so small that its rows' sums are about 1, and B is zero."""
        count, _, width = vectors.shape
        a = jax.random.normal(key, (count, longest, rank)) / rank
        return cls(vectors, a, jnp.zeros((count, rank, width)))

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        moves = jnp.einsum("jsr,jrd->jsd", self.a[...], self.b[...])
        row, place = places(batch)
        there = of_inputs(batch, backbone) & (place < moves.shape[1])
        shift = moves[jnp.asarray(batch.prompt_index)[row], place]
        return Prefix(self.vectors[...], batch.prompt_index, jnp.where(there[:, None], shift, 0.0))

    def extent(self, rows: int) -> tuple[int, int]:
        prompts, length, _ = self.vectors.shape
        return prompts, length


def start(setting: Setting) -> Start:
    """From vectors; no embedding is shifted yet."""
    options: DeptConfig = setting.options
    vectors = setting.starting_vectors(options.length)
    prompt = DecomposedPrompt.start(vectors, setting.max_length, options.rank, setting.key)
    return Start(Prompted(setting.pretrained.backbone, prompt), setting.origin, weight_rate=options.rate)


METHOD = Method("dept", "DePT", start, DeptConfig, ("rate",))
