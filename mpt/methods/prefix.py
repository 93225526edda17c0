"""Prefix tuning (Li & Liang, ACL 2021): trained keys and values in front of the text, in every layer.

With X the states of a row of task j that enter layer l, the layer's attention becomes, for each head,

    softmax(X Wq [K_jl; X Wk]' / sqrt(H)) [V_jl; X Wv]

where K_jl and V_jl, P rows each, are trained; positions of the text begin at P. A soft prompt is the special
case in which the frozen layers compute them from P vectors. The paper computes them by a network during
training; here they are trained directly, as PEFT does without ``prefix_projection``.

Keys are stored as in a KV cache: after the norm of keys and the rotary embedding, where a model has
these. A layer with a window attends to the part of the prefix that is within it. With ``vectors.layer``, only
the layers from that one on have a prefix.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mpt.config.methods import PrefixConfig
from mpt.errors import UserError
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.attention import KV
from mpt.models.backbone import Backbone, prefix_shape
from mpt.models.decoder import Decoder
from mpt.prompts.initial import check_layer, states
from mpt.prompts.prefix import Prefix
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import saved_as
from mpt.prompts.soft import PromptParam
from mpt.prompts.universal_prefix import keys_and_values
from mpt.types import Batch


@saved_as("prefix")
class PrefixPrompt(nnx.Module):
    """The keys and values of a prefix in every layer from ``layer`` on, one prefix per task.

    An encoder-decoder has them in its decoder's self-attention.

    Args:
        keys: initial keys, which stay [J, layers, P, K, H].
        values: initial values, of the same shape.
        layer: the first layer that has them.
    """

    def __init__(
        self, keys: Float[Array, "J layers P K H"], values: Float[Array, "J layers P K H"], layer: int = 0
    ):
        self.layer = layer
        self.keys, self.values = PromptParam(keys, group="weights"), PromptParam(values, group="weights")

    @classmethod
    def from_vectors(cls, backbone: Backbone, vectors: Float[Array, "J P D"], layer: int = 0) -> PrefixPrompt:
        """A prefix that is equivalent to soft prompts: the keys and values that the layers compute from them.

        The prompts enter before ``layer``.

        Raises:
            UserError: the backbone is an encoder-decoder, whose decoder has no such keys and values, or has
                layers of several kinds.
        """
        return cls(*keys_and_values(backbone, vectors, layer), layer=layer)

    @classmethod
    def from_tokens(cls, backbone: Backbone, ids: Int[Array, "J P"], layer: int = 0) -> PrefixPrompt:
        """A prefix that is equivalent to tokens before the text, such as instructions or examples.

        From a later layer on, it is equivalent to their hidden states there.

        Raises:
            UserError: the backbone is an encoder-decoder.
        """
        return cls.from_vectors(backbone, states(backbone.embed(ids), layer, backbone), layer)

    @classmethod
    def random(
        cls, backbone: Backbone, prompts: int, length: int, key: Array, scale: float = 0.02, layer: int = 0
    ) -> PrefixPrompt:
        """Prefixes of normally distributed keys and values with the standard deviation ``scale``."""
        layers, heads, width = prefix_shape(backbone)
        shape = (prompts, layers - layer, length, heads, width)
        keys, values = (scale * jax.random.normal(part, shape) for part in jax.random.split(key))
        return cls(keys, values, layer)

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        """No vectors in front of the text, but keys and values."""
        kv = KV(*(jnp.moveaxis(part[...], 0, 1) for part in (self.keys, self.values)))
        vectors = jnp.zeros((len(self.keys[...]), 0, backbone.embedding.shape[-1]))
        return Prefix(vectors, batch.prompt_index, kv=kv, layer=self.layer)

    def extent(self, rows: int) -> tuple[int, int]:
        """The number of prefixes and their length; costs are those of vectors, a little more."""
        prompts, _, length, _, _ = self.keys.shape
        return prompts, length


def start(setting: Setting) -> Start:
    """The untrained prefix is equivalent to the text that it starts from.

    Raises:
        UserError: the backbone has no such layer, or is an encoder-decoder, whose prefix is in every layer.
    """
    options: PrefixConfig = setting.options
    backbone, origin, layer = setting.pretrained.backbone, setting.origin, setting.layer
    check_layer(layer, backbone)
    if layer and not isinstance(backbone, Decoder):
        raise UserError(
            "method prefix: an encoder-decoder's prefix is in every layer; leave out vectors.layer"
        )
    if options.start == "vectors":
        prompt = PrefixPrompt.from_vectors(backbone, setting.starting_vectors(options.length), layer)
    else:
        length = options.length or setting.vectors.length
        prompt = PrefixPrompt.random(backbone, len(setting.tasks), length, setting.key, layer=layer)
        origin = "random numbers"
    return Start(Prompted(backbone, prompt), origin, weight_rate=options.rate)


METHOD = Method("prefix", "prefix tuning", start, PrefixConfig, ("rate",), late=True)
