"""Where attention goes: from labels, and from an encoder's text, to the prompt's positions.

Training never asks for attention's weights, so the backbones do not give them. Here the same layers run
once more in the plain formulation, each row with its prompt in front, and tell what they look at.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mpt.models.attention import KV, attend, visible
from mpt.models.backbone import Backbone
from mpt.models.decoder import Decoder, block
from mpt.models.layers import Layer, feed_forward, linear, look_up, rms_norm, values
from mpt.models.t5 import T5, buckets, decoder_layer, position_bias, self_attention
from mpt.types import Batch

# From where to where -> the share of attention's mass, averaged over heads and over the positions that
# look, by layer and row.
Mass = dict[str, Float[Array, "_layers B _P"]]
Seen = dict[str, Float[Array, "B _P"]]  # by one layer


def prompt_mass(backbone: Backbone, batch: Batch, prompts: Float[Array, "J P D"]) -> Mass:
    """How much of attention goes to each position of the prompt.

    Returns:
        Of a decoder, "labels": from the positions that predict a target. Of an encoder-decoder "text",
        from the text's positions in the encoder; "labels", from the decoder to what was encoded; and, if
        a part of the prompt stands before the decoder's text, "labels, decoder", to that.
    """
    graph, state = nnx.split(backbone)
    return _prompt_mass(graph, state, jax.tree.map(jnp.asarray, batch), prompts)


@partial(jax.jit, static_argnums=0)
def _prompt_mass(graph: nnx.GraphDef, state: nnx.State, batch: Batch, prompts: Float[Array, "J P D"]) -> Mass:
    backbone = nnx.merge(graph, state)
    own = prompts.astype(backbone.dtype)[batch.prompt_index]
    if isinstance(backbone, Decoder):
        return _decoder(backbone, batch, own)
    assert isinstance(backbone, T5)
    return _encoder_decoder(backbone, batch, own)


def _decoder(backbone: Decoder, batch: Batch, own: Float[Array, "B P D"]) -> Mass:
    spec, (length, width) = backbone.spec, (own.shape[1], batch.grid.shape[1])
    x = jnp.concatenate([own, _rows(backbone, batch)], axis=1)
    positions = jnp.arange(x.shape[1])[None]
    labels = length + batch.cells[batch.positions] % width
    if spec.positions:
        x = x + look_up(values(backbone.ends), "position_table", positions)
    angles, scoring = spec.angles(positions), spec.scoring

    def layer(x: Float[Array, "B S D"], w: Layer):
        seen: Seen = {}

        def look(q: Float[Array, "B S N H"], kv: KV) -> Float[Array, "B S N H"]:
            asked = jnp.take_along_axis(q, labels[..., None, None], axis=1)
            weights = attention_weights(asked, kv.k, visible(labels, positions, w["window"]), *scoring)
            seen["labels"] = mean_mass(weights[..., :length], batch.labelled)
            return attend(q, kv, visible(positions, positions, w["window"]), *scoring)

        x, _ = block(spec, w, x, jax.tree.map(lambda part: part[w["rope"]], angles), look)
        return x, seen

    return jax.lax.scan(layer, x, values(backbone.layers) | spec.layer_constants())[1]


def _encoder_decoder(backbone: T5, batch: Batch, own: Float[Array, "B P D"]) -> Mass:
    length = own.shape[1] - backbone.spec.decoder_prompt
    encoded, text = _encoder(backbone, batch, own[:, :length])
    mass = text | _decoder_of_t5(backbone, batch, own[:, length:], encoded, length)
    return mass if backbone.spec.decoder_prompt else {name: mass[name] for name in ("text", "labels")}


def _encoder(backbone: T5, batch: Batch, prompt: Float[Array, "B P D"]) -> tuple[Float[Array, "B S D"], Mass]:
    """What was encoded, and the mass from the text to the prompt."""
    spec, length = backbone.spec, prompt.shape[1]
    x = jnp.concatenate([prompt, _rows(backbone, batch)], axis=1)
    positions, there = jnp.arange(x.shape[1])[None], _encoded(batch, length)
    bucket = buckets(positions, positions, spec.buckets, spec.max_distance, both_ways=True)

    def layer(x: Float[Array, "B S D"], w: Layer):
        seen: Seen = {}
        bias = position_bias(_table(backbone, "encoder_bias", w), bucket)

        def look(q: Float[Array, "B S N H"], kv: KV) -> Float[Array, "B S N H"]:
            weights = attention_weights(q, kv.k, there, scale=1.0, bias=bias)
            seen["text"] = mean_mass(weights[:, :, length:, :length], batch.filled)
            return attend(q, kv, there, scale=1.0, bias=bias)

        x, _ = self_attention(spec, w, x, look)
        return x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation), seen

    x, mass = jax.lax.scan(layer, x, values(backbone.encoder))
    return rms_norm(x, backbone.ends["encoder_norm"][...], spec.norm_eps), mass


def _decoder_of_t5(
    backbone: T5, batch: Batch, prompt: Float[Array, "B Q D"], encoded: Float[Array, "B S D"], length: int
) -> Mass:
    """The mass from the labels to the encoder's prompt, and to the decoder's own."""
    spec, count = backbone.spec, prompt.shape[1]
    shifted = jnp.pad(batch.targets[:, :-1], [(0, 0), (1, 0)], constant_values=spec.start_token)
    x = jnp.concatenate([prompt, backbone.embed(shifted)], axis=1)
    positions, there = jnp.arange(x.shape[1])[None], _encoded(batch, length)
    mask = visible(positions, positions)
    bucket = buckets(positions, positions, spec.buckets, spec.max_distance, both_ways=False)

    def layer(x: Float[Array, "B S D"], w: Layer):
        seen: Seen = {}
        bias = position_bias(_table(backbone, "decoder_bias", w), bucket)

        def look(q: Float[Array, "B S N H"], kv: KV) -> Float[Array, "B S N H"]:
            weights = attention_weights(q, kv.k, mask, scale=1.0, bias=bias)
            seen["labels, decoder"] = mean_mass(weights[:, :, count:, :count], batch.labelled)
            return attend(q, kv, mask, scale=1.0, bias=bias)

        def look_across(q: Float[Array, "B S N H"]) -> Float[Array, "B S N H"]:
            kv = KV(linear(w, "cross_k", encoded), linear(w, "cross_v", encoded))
            weights = attention_weights(q, kv.k, there, scale=1.0)
            seen["labels"] = mean_mass(weights[:, :, count:, :length], batch.labelled)
            return attend(q, kv, there, scale=1.0)

        x, _ = decoder_layer(spec, w, x, look, look_across)
        return x, seen

    return jax.lax.scan(layer, x, values(backbone.decoder))[1]


def _rows(backbone: Backbone, batch: Batch) -> Float[Array, "B T D"]:
    """The texts' embeddings, a row to a line."""
    return jnp.take(backbone.embed(batch.tokens), batch.grid, axis=0, mode="fill", fill_value=0)


def _encoded(batch: Batch, length: int) -> Bool[Array, "B 1 1 S"]:
    """True at the prompt and the text."""
    return jnp.pad(batch.filled, [(0, 0), (length, 0)], constant_values=True)[:, None, None]


def _table(backbone: T5, name: str, w: Layer) -> Float[Array, "buckets N"]:
    return w["bias"] if backbone.spec.bias_everywhere else backbone.ends[name][...]


def attention_weights(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    mask: Bool[Array, "#B 1 #T S"],
    scale: float,
    cap: float | None = None,
    bias: Float[Array, "#B N T S"] | None = None,
) -> Float[Array, "B N T S"]:
    """softmax(scale · q kᵀ + bias), in float32; the arguments are those of ``attend``."""
    k = jnp.repeat(k, q.shape[2] // k.shape[2], axis=2)
    scores = scale * jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=jnp.float32)
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    scores = scores if bias is None else scores + bias
    return jax.nn.softmax(scores, axis=-1, where=mask)


def mean_mass(weights: Float[Array, "B N T P"], asked: Bool[Array, "B T"]) -> Float[Array, "B P"]:
    """The mean over the heads, and over the row's positions that are ``asked``."""
    total = jnp.einsum("bntp,bt->bp", weights, asked.astype(jnp.float32))
    return total / (weights.shape[1] * jnp.sum(asked, axis=1, dtype=jnp.float32)[:, None])
