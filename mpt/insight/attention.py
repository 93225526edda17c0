"""Attention weights on the prompt's positions: from labels, and from an encoder's text.

Training needs no attention weights, so the backbones do not return them. Here the same layers run again in
the plain formulation, each row with its prompt in front, and record their attention weights.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mpt.models.attention import KV, NOWHERE, attend, concat_masks, visible
from mpt.models.backbone import Backbone
from mpt.models.decoder import Decoder
from mpt.models.decoder_layer import Mixing, entered
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.t5 import T5
from mpt.models.encoder_decoder.t5_layers import buckets, decoder_layer, position_bias, self_attention
from mpt.models.encoder_decoder.t5gemma import T5Gemma
from mpt.models.layers import Layer, feed_forward, linear, rms_norm, values
from mpt.models.stack.delta_rule import Inputs, read_rows
from mpt.models.stack.kinds import places
from mpt.models.stack.rows import Rows
from mpt.models.stack.run import run_layers
from mpt.types import Batch

# The fraction of attention on each position of the prompt, by the source of the attention; averaged over
# heads and over the source's positions, for each layer and row.
Mass = dict[str, Float[Array, "_layers B _P"]]
LayerMass = dict[str, Float[Array, "B _P"]]  # the same for one layer


def prompt_mass(backbone: Backbone, batch: Batch, prompts: Float[Array, "J P D"]) -> Mass:
    """The fraction of attention on each position of the prompt.

    Returns:
        For a decoder, "labels": from the positions that predict a target. For an encoder-decoder, "text":
        from the positions of the text in the encoder; "labels": from the decoder to the encoder's output;
        and, if some prompt vectors are before the decoder's text, "labels, decoder": from the decoder to
        those.
    """
    graph, state = nnx.split(backbone)
    return _prompt_mass(graph, state, jax.tree.map(jnp.asarray, batch), prompts)


@partial(jax.jit, static_argnums=0)
def _prompt_mass(graph: nnx.GraphDef, state: nnx.State, batch: Batch, prompts: Float[Array, "J P D"]) -> Mass:
    backbone = nnx.merge(graph, state)
    row_prompts = prompts.astype(backbone.dtype)[batch.prompt_index]
    if isinstance(backbone, Decoder):
        return _decoder(backbone, batch, row_prompts)
    if isinstance(backbone, T5Gemma):
        mass = _t5gemma(backbone, batch, row_prompts)
    else:
        assert isinstance(backbone, T5)
        mass = _t5(backbone, batch, row_prompts)
    return mass if backbone.spec.decoder_prompt else {name: mass[name] for name in ("text", "labels")}


def _decoder(backbone: Decoder, batch: Batch, row_prompts: Float[Array, "B P D"]) -> Mass:
    assert not backbone.opening  # rows of such tasks are not read here
    spec, (length, width) = backbone.spec, (row_prompts.shape[1], batch.grid.shape[1])
    texts = _rows(backbone, batch)
    x = jnp.concatenate([row_prompts, texts], axis=1)
    own = None
    if spec.per_layer:
        tokens = jnp.take(batch.tokens, batch.grid, mode="fill", fill_value=0)
        both = (backbone.layer_inputs(*pair) for pair in ((row_prompts, None), (texts, tokens)))
        own = jnp.concatenate([part for part in both if part is not None], axis=1)
    positions = jnp.arange(x.shape[1])[None]
    labels = length + batch.cells[batch.positions] % width
    x = entered(spec, values(backbone.ends), x, positions)

    def attend_and_record(part: DecoderSpec, w: Layer, _: None, q: Float[Array, "B S N H"], kv: KV):
        scoring = part.scoring(w)
        label_queries = jnp.take_along_axis(q, labels[..., None, None], axis=1)
        weights = attention_weights(label_queries, kv.k, visible(labels, positions, w["window"]), *scoring)
        mass = mean_mass(weights[..., :length], batch.labelled)
        return attend(q, kv, visible(positions, positions, w["window"]), *scoring), mass

    def delta(part: DecoderSpec, w: Layer, _: None, inputs: Inputs):
        return read_rows(w, part.activation, inputs)[0], None

    mixing = Mixing(attend_and_record, delta)
    _, mass = run_layers(spec, backbone.stacks, x, positions, mixing, {}, (0, spec.layers), own)
    order = [mass[kind][place] for kind, place in places(spec.layer_kinds) if mass[kind] is not None]
    return {"labels": jnp.stack(order)}


def _t5gemma(backbone: T5Gemma, batch: Batch, row_prompts: Float[Array, "B P D"]) -> Mass:
    spec = backbone.spec
    length = row_prompts.shape[1] - spec.decoder_prompt
    x = jnp.concatenate([row_prompts[:, :length], _rows(backbone, batch)], axis=1)
    positions, is_encoded = jnp.arange(x.shape[1])[None], _encoded(batch, length)

    def both_ways(part: DecoderSpec, w: Layer, _: None, q: Float[Array, "B S N H"], kv: KV):
        mask = is_encoded & visible(positions, positions, w["window"], w["ahead"])
        weights = attention_weights(q, kv.k, mask, *part.scoring(w))
        mass = mean_mass(weights[:, :, length:, :length], batch.filled)
        return attend(q, kv, mask, *part.scoring(w)), mass

    encoded, text = backbone.through_encoder(x, positions, Mixing(both_ways), (0, spec.layers))
    places = jnp.arange(positions.size * len(x))
    rows = Rows(places.reshape(len(x), -1), places)
    cross_kv = backbone.cross_kv(encoded.reshape(places.size, -1), rows, decoder_length=NOWHERE)
    assert cross_kv is not None
    mass = _decoder_of_t5gemma(backbone, batch, row_prompts[:, length:], is_encoded, cross_kv, length)
    return {"text": text} | mass


def _decoder_of_t5gemma(
    backbone: T5Gemma,
    batch: Batch,
    prompt: Float[Array, "B Q D"],
    is_encoded: Bool[Array, "B 1 1 S"],
    cross_kv: KV,
    length: int,
) -> Mass:
    """See ``_decoder_of_t5``; ``cross_kv`` are all layers' keys and values of the encoder's output."""
    count, merged = prompt.shape[1], backbone.spec.merged
    x = backbone.begun(prompt, backbone.decoded(batch))
    positions = jnp.arange(x.shape[1])[None]

    def mass_on(weights: Float[Array, "B N T S"]) -> Float[Array, "B S"]:
        return mean_mass(weights[:, :, count:], batch.labelled)

    def attention(part: DecoderSpec, w: Layer, encoded: KV, q: Float[Array, "B T N H"], kv: KV):
        own, mask = len(positions[0]), visible(positions, positions, w["window"])
        if merged:
            kv, mask = kv.concat(encoded), concat_masks(mask, is_encoded)
        mass = mass_on(attention_weights(q, kv.k, mask, *part.scoring(w)))
        found = {"labels, decoder": mass[:, :count]} | (
            {"labels": mass[:, own : own + length]} if merged else {}
        )
        return attend(q, kv, mask, *part.scoring(w)), found

    def across(part: DecoderSpec, w: Layer, encoded: KV, q: Float[Array, "B T N H"]):
        mass = mass_on(attention_weights(q, encoded.k, is_encoded, *part.scoring(w)))
        return attend(q, encoded, is_encoded, *part.scoring(w)), {"labels": mass[:, :length]}

    _, found = backbone.through_decoder(x, positions, Mixing(attention, across=across), cross_kv)
    return found if merged else found[0] | found[1]


def _t5(backbone: T5, batch: Batch, row_prompts: Float[Array, "B P D"]) -> Mass:
    length = row_prompts.shape[1] - backbone.spec.decoder_prompt
    encoded, text = _encoder(backbone, batch, row_prompts[:, :length])
    return text | _decoder_of_t5(backbone, batch, row_prompts[:, length:], encoded, length)


def _encoder(backbone: T5, batch: Batch, prompt: Float[Array, "B P D"]) -> tuple[Float[Array, "B S D"], Mass]:
    """The encoder's output, and the attention from the text to the prompt."""
    spec, length = backbone.spec, prompt.shape[1]
    x = jnp.concatenate([prompt, _rows(backbone, batch)], axis=1)
    positions, is_encoded = jnp.arange(x.shape[1])[None], _encoded(batch, length)
    bucket = buckets(positions, positions, spec.buckets, spec.max_distance, both_ways=True)

    def layer(x: Float[Array, "B S D"], w: Layer):
        mass_of_layer: LayerMass = {}
        bias = position_bias(_table(backbone, "encoder_bias", w), bucket)

        def attend_and_record(q: Float[Array, "B S N H"], kv: KV) -> Float[Array, "B S N H"]:
            weights = attention_weights(q, kv.k, is_encoded, scale=1.0, bias=bias)
            mass_of_layer["text"] = mean_mass(weights[:, :, length:, :length], batch.filled)
            return attend(q, kv, is_encoded, scale=1.0, bias=bias)

        x, _ = self_attention(spec, w, x, attend_and_record)
        return x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation), mass_of_layer

    x, mass = jax.lax.scan(layer, x, values(backbone.encoder))
    return rms_norm(x, backbone.ends["encoder_norm"][...], spec.norm_eps), mass


def _decoder_of_t5(
    backbone: T5, batch: Batch, prompt: Float[Array, "B Q D"], encoded: Float[Array, "B S D"], length: int
) -> Mass:
    """The attention from the labels to the prompt vectors of the encoder, and to those of the decoder."""
    spec, count = backbone.spec, prompt.shape[1]
    x = backbone.begun(prompt, backbone.decoded(batch))
    positions, is_encoded = jnp.arange(x.shape[1])[None], _encoded(batch, length)
    mask = visible(positions, positions)
    bucket = buckets(positions, positions, spec.buckets, spec.max_distance, both_ways=False)

    def layer(x: Float[Array, "B S D"], w: Layer):
        mass_of_layer: LayerMass = {}
        bias = position_bias(_table(backbone, "decoder_bias", w), bucket)

        def attend_and_record(q: Float[Array, "B S N H"], kv: KV) -> Float[Array, "B S N H"]:
            weights = attention_weights(q, kv.k, mask, scale=1.0, bias=bias)
            mass_of_layer["labels, decoder"] = mean_mass(weights[:, :, count:, :count], batch.labelled)
            return attend(q, kv, mask, scale=1.0, bias=bias)

        def cross_attend_and_record(q: Float[Array, "B S N H"]) -> Float[Array, "B S N H"]:
            kv = KV(linear(w, "cross_k", encoded), linear(w, "cross_v", encoded))
            weights = attention_weights(q, kv.k, is_encoded, scale=1.0)
            mass_of_layer["labels"] = mean_mass(weights[:, :, count:, :length], batch.labelled)
            return attend(q, kv, is_encoded, scale=1.0)

        x, _ = decoder_layer(spec, w, x, attend_and_record, cross_attend_and_record)
        return x, mass_of_layer

    return jax.lax.scan(layer, x, values(backbone.decoder))[1]


def _rows(backbone: Backbone, batch: Batch) -> Float[Array, "B T D"]:
    """The embeddings of the texts, as one line per row."""
    return jnp.take(backbone.embed(batch.tokens), batch.grid, axis=0, mode="fill", fill_value=0)


def _encoded(batch: Batch, length: int) -> Bool[Array, "B 1 1 S"]:
    """True at the prompt and the text, False at padding."""
    return jnp.pad(batch.filled, [(0, 0), (length, 0)], constant_values=True)[:, None, None]


def _table(backbone: T5, name: str, w: Layer) -> Float[Array, "buckets N"]:
    return w["bias"] if backbone.spec.bias_everywhere else backbone.ends[name][...]


def attention_weights(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    mask: Bool[Array, "#B 1 #T S"],
    scale: float,
    cap: float | None = None,
    sinks: Float[Array, " N"] | None = None,
    bias: Float[Array, "#B N T S"] | None = None,
) -> Float[Array, "B N T S"]:
    """Attention weights softmax(scale · q kᵀ + bias) in float32; the arguments are those of ``attend``."""
    k = jnp.repeat(k, q.shape[2] // k.shape[2], axis=2)
    scores = scale * jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=jnp.float32)
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    scores = scores if bias is None else scores + bias
    if sinks is None:
        return jax.nn.softmax(scores, axis=-1, where=mask)
    nothing = jnp.broadcast_to(sinks.astype(jnp.float32)[None, :, None, None], (*scores.shape[:3], 1))
    mask = jnp.pad(mask, [(0, 0)] * 3 + [(0, 1)], constant_values=True)
    return jax.nn.softmax(jnp.concatenate([scores, nothing], axis=-1), axis=-1, where=mask)[..., :-1]


def mean_mass(weights: Float[Array, "B N T P"], selected: Bool[Array, "B T"]) -> Float[Array, "B P"]:
    """The mean of attention weights over the heads, and over the ``selected`` positions of each row."""
    total = jnp.einsum("bntp,bt->bp", weights, selected.astype(jnp.float32))
    return total / (weights.shape[1] * jnp.sum(selected, axis=1, dtype=jnp.float32)[:, None])
