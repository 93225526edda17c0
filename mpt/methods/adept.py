"""ADePT (Tang et al., ICLR 2025, arXiv:2501.03291): a soft prompt, and a network that shifts embeddings."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpt.config.methods import AdeptConfig
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.backbone import Backbone
from mpt.prompts import Prefix, PromptParam
from mpt.prompts.prefix import of_inputs, places
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import saved_as
from mpt.types import Batch


@saved_as("adept")
class AdaptivePrompt(nnx.Module):
    """Vectors in front of the input, each of whose embeddings e becomes e + max(e D_j + c_j, 0) U_j + b_j.

    The network is the same for all tokens of a task: unlike DePT's, a shift depends on the token and not on
    its position.

    Args:
        vectors: [J, P, D].
        down: D, [J, D, F].
        down_bias: c, [J, F].
        up: U, [J, F, D].
        up_bias: b, [J, D].
    """

    layer: int = 0

    def __init__(
        self,
        vectors: Float[Array, "J P D"],
        down: Float[Array, "J D F"],
        down_bias: Float[Array, "J F"],
        up: Float[Array, "J F D"],
        up_bias: Float[Array, "J D"],
    ):
        self.vectors = PromptParam(vectors)
        self.down, self.down_bias = (
            PromptParam(down, group="weights"),
            PromptParam(down_bias, group="weights"),
        )
        self.up, self.up_bias = PromptParam(up, group="weights"), PromptParam(up_bias, group="weights")

    @classmethod
    def start(
        cls, vectors: Float[Array, "J P D"], width: int, scale: Float[Array, ""], key: Array
    ) -> AdaptivePrompt:
        """A network that shifts nothing yet: D is random, all else zero.

        Args:
            width: F, the hidden units.
            scale: standard deviation of the embeddings' numbers; it makes hidden units of about 1.
        """
        count, _, dim = vectors.shape
        down = jax.random.normal(key, (count, dim, width)) / (scale * math.sqrt(dim))
        zeros = (jnp.zeros((count, width)), jnp.zeros((count, width, dim)), jnp.zeros((count, dim)))
        return cls(vectors, down, *zeros)

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        embedded = jax.lax.stop_gradient(backbone.embed(jnp.asarray(batch.tokens))).astype(jnp.float32)
        row, _ = places(batch)
        task = jnp.asarray(batch.prompt_index)[row]

        def shift(down: Array, down_bias: Array, up: Array, up_bias: Array) -> Float[Array, "N D"]:
            return jax.nn.relu(embedded @ down + down_bias[None]) @ up + up_bias[None]

        # Few tasks are in a batch: each network reads all tokens, and each token takes its task's shift.
        shifts = jax.vmap(shift)(self.down[...], self.down_bias[...], self.up[...], self.up_bias[...])
        shift_of_token = jnp.take_along_axis(shifts, task[None, :, None], axis=0)[0]
        inputs = of_inputs(batch, backbone)
        return Prefix(self.vectors[...], batch.prompt_index, jnp.where(inputs[:, None], shift_of_token, 0.0))

    def extent(self, rows: int) -> tuple[int, int]:
        prompts, length, _ = self.vectors.shape
        return prompts, length


def start(setting: Setting) -> Start:
    """From vectors; no embedding is shifted yet."""
    options: AdeptConfig = setting.options
    vectors = setting.starting_vectors(options.length)
    table = setting.pretrained.backbone.embed(jnp.arange(setting.pretrained.backbone.embedding.shape[0]))
    scale = jnp.std(table.astype(jnp.float32))
    prompt = AdaptivePrompt.start(vectors, options.width, scale, setting.key)
    return Start(Prompted(setting.pretrained.backbone, prompt), setting.origin, weight_rate=options.rate)


METHOD = Method("adept", "ADePT", start, AdeptConfig, ("rate",))
