"""A universal prefix: keys and values in every layer, which tasks share (Li & Liang, ACL 2021).

Vectors before the embeddings affect the later layers only through the frozen layers.
Keys and values in every layer have more parameters, and learn many tasks in fewer steps. Each task's own
words follow them, as they follow a universal prompt.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpt.errors import UserError
from mpt.models.attention import KV
from mpt.models.backbone import Backbone, prefix_shape
from mpt.models.decoder import Decoder
from mpt.prompts.multitask import Words
from mpt.prompts.prefix import Prefix
from mpt.prompts.saved import saved_as
from mpt.prompts.soft import PromptParam
from mpt.types import Batch


@saved_as("universal prefix")
class UniversalPrefix(nnx.Module):
    """Keys and values of every layer, followed by the embedded words of each task.

    The source tasks share one prefix; targets adapted side by side have a copy each.

    Args:
        keys: [1, layers, P, K, H] or [J, layers, P, K, H], after the rotary embedding, as in a KV cache.
        values: of the same shape.
        words: [J, Q, D]; while source tasks are learned Q is 0, since their texts have the instructions.
    """

    layer = 0

    def __init__(
        self,
        keys: Float[Array, "#J layers P K H"],
        values: Float[Array, "#J layers P K H"],
        words: Float[Array, "J Q D"],
    ):
        self.keys, self.values = PromptParam(keys), PromptParam(values)
        self.words = Words(words)

    @classmethod
    def start(
        cls, backbone: Backbone, vectors: Float[Array, "#J P D"], words: Float[Array, "J Q D"]
    ) -> UniversalPrefix:
        """A prefix that, untrained, is equivalent to vectors before the words."""
        return cls(*keys_and_values(backbone, vectors), words)

    def for_targets(self, words: Float[Array, "J Q D"]) -> UniversalPrefix:
        """The start of a new task for each of the ``words``, with a copy of the prefix for each."""
        count = len(words)
        keys, values = (jnp.repeat(part[...][:1], count, axis=0) for part in (self.keys, self.values))
        return UniversalPrefix(keys, values, words)

    def with_words(self, words: Float[Array, "J Q D"]) -> UniversalPrefix:
        """The same followed by other words."""
        return UniversalPrefix(self.keys[...], self.values[...], words)

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        kv, words, index = (self.keys[...], self.values[...]), self.words[...], batch.prompt_index
        if words.shape[1] == 0 and len(kv[0]) == 1:  # then all rows have the same prompt, whatever their task
            words, index = words[:1], jnp.zeros_like(index)
        each = (jnp.broadcast_to(part, (len(words), *part.shape[1:])) for part in kv)
        return Prefix(words, index, kv=KV(*(jnp.moveaxis(part, 0, 1) for part in each)))

    def extent(self, rows: int) -> tuple[int, int]:
        """The number of prompts and their length; costs are computed as for vectors."""
        prompts, length, _ = self.words.shape
        return (prompts if length else len(self.keys[...])), self.keys.shape[2] + length


def keys_and_values(
    backbone: Backbone, vectors: Float[Array, "J P D"], layer: int = 0
) -> tuple[Float[Array, "J layers P K H"], Float[Array, "J layers P K H"]]:
    """The keys and values that the layers from ``layer`` on compute from vectors inserted before it.

    Raises:
        UserError: the backbone is an encoder-decoder, whose decoder has no such keys and values, or has
            layers of several kinds.
    """
    if not isinstance(backbone, Decoder):
        raise UserError(
            "a prefix starts from text in decoder-only models; start an encoder-decoder's from random "
            "numbers, with --method prefix --prefix.start random"
        )
    prefix_shape(backbone)
    graph, weights = nnx.split(backbone)
    made = jax.jit(lambda weights, vectors: nnx.merge(graph, weights).prompt_kv(vectors, layer))(
        weights, vectors
    )
    keys, values = (jnp.moveaxis(part, 0, 1).astype(jnp.float32) for part in made)
    return keys, values
