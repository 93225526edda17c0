"""ATTEMPT (Asai et al., EMNLP 2022): each input attends over source prompts and the target's own."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpt.config.methods import AttemptConfig
from mpt.errors import UserError
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.backbone import Backbone
from mpt.models.layers import Weight, layer_norm
from mpt.prompts.prefix import Prefix, of_inputs
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import saved_as
from mpt.prompts.soft import PromptParam
from mpt.types import Batch

NORM_EPS = 1e-5


@saved_as("attempt")
class AttentionalPrompt(nnx.Module):
    """A prompt per row: P = P_target + Σ_k a_k P_k over the sources and the target (section 3.2).

    a = softmax(max(P_k) · G(max(X)) / (e·D)), where max takes each dimension's largest value over a
    prompt's vectors, or an input's embeddings X, and G(x) = norm(up(silu(down(x)))).

    Args:
        sources: prompts of source tasks; frozen.
        target: [J, P, D], one per target, as are the next four.
        net_down: [J, D, F].
        net_up: [J, F, D].
        norm_scale: [J, D].
        norm_bias: [J, D].
    """

    layer: int = 0

    def __init__(
        self,
        sources: Float[Array, "K P D"],
        target: Float[Array, "J P D"],
        net_down: Float[Array, "J D F"],
        net_up: Float[Array, "J F D"],
        norm_scale: Float[Array, "J D"],
        norm_bias: Float[Array, "J D"],
    ):
        self.sources, self.target = Weight(sources), PromptParam(target)
        self.net_down, self.net_up = PromptParam(net_down), PromptParam(net_up)
        self.norm_scale, self.norm_bias = PromptParam(norm_scale), PromptParam(norm_bias)

    @classmethod
    def start(
        cls, sources: Float[Array, "K P D"], target: Float[Array, "J P D"], width: int, key: Array
    ) -> AttentionalPrompt:
        """A random net with ``width`` hidden units."""
        (count, _, dim), keys = target.shape, jax.random.split(key)
        down = jax.random.normal(keys[0], (count, dim, width)) / math.sqrt(dim)
        up = jax.random.normal(keys[1], (count, width, dim)) / math.sqrt(width)
        return cls(sources, target, down, up, jnp.ones((count, dim)), jnp.zeros((count, dim)))

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        own, index = self.target[...], jnp.asarray(batch.prompt_index)
        attention = jax.vmap(self._attention)(largest_inputs(batch, backbone), index)
        from_sources = jnp.einsum("bk,kpd->bpd", attention[:, :-1], self.sources[...])
        vectors = from_sources + (1 + attention[:, -1, None, None]) * own[index]
        return Prefix(vectors, jnp.arange(len(index)))

    def extent(self, rows: int) -> tuple[int, int]:
        return rows, self.target.shape[1]  # every row has a prompt of its own

    def _attention(self, largest: Float[Array, " D"], j: Array) -> Float[Array, " sources"]:
        """The shares of the sources and, last, of the target's own prompt, for one row of target ``j``."""
        hidden = jax.nn.silu(largest @ self.net_down[...][j]) @ self.net_up[...][j]
        query = layer_norm(hidden, self.norm_scale[...][j], self.norm_bias[...][j], NORM_EPS)
        prompts = jnp.concatenate([self.sources[...], self.target[...][j][None]])
        return jax.nn.softmax(prompts.max(axis=1) @ query / (math.e * len(query)))


def largest_inputs(batch: Batch, backbone: Backbone) -> Float[Array, "B D"]:
    """Each dimension's largest value over the embeddings of a row's input."""
    embedded = backbone.embed(jnp.asarray(batch.tokens)).astype(jnp.float32)
    read = jnp.where(of_inputs(batch, backbone)[:, None], embedded, -jnp.inf)
    spread = jnp.take(read, jnp.asarray(batch.grid), axis=0, mode="fill", fill_value=-jnp.inf)
    return jax.lax.stop_gradient(spread.max(axis=1))


def start(setting: Setting) -> Start:
    """New vectors, beside the frozen source prompts, and a random network."""
    options: AttemptConfig = setting.options
    sources, names = setting.teachers()
    target = setting.new_vectors()
    if target.shape[1] != sources.shape[1]:
        raise UserError(
            f"method attempt: the source prompts have {sources.shape[1]} vectors, the target's "
            f"{target.shape[1]}; set --vectors.length {sources.shape[1]}"
        )
    prompt = AttentionalPrompt.start(sources, target, options.width, setting.key)
    origin = f"{setting.vectors.start}, beside {', '.join(names)}"
    return Start(Prompted(setting.pretrained.backbone, prompt), origin, weight_rate=options.rate)


METHOD = Method("attempt", "ATTEMPT", start, AttemptConfig, ("rate",), needs_teachers=True, new_vectors=True)
