"""T5 and its variants: an encoder-decoder whose positions are relative, as biases of its attention."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import KV, Kernel, KVCache, attend, attend_within, concat_positions
from mpt.models.encoder_decoder.base import EncoderDecoder, decoder_mask
from mpt.models.encoder_decoder.encoded import Encoded
from mpt.models.encoder_decoder.t5_layers import buckets, decoder_layer, position_bias, self_attention
from mpt.models.encoder_decoder.t5_spec import T5Spec
from mpt.models.layers import (
    REMAT,
    Layer,
    feed_forward,
    linear,
    look_up,
    make_weights,
    rms_norm,
    scan_over,
    score,
    score_tokens,
    unsharded,
    values,
)
from mpt.models.stack.rows import Rows
from mpt.sharding import on_one_device


class T5(EncoderDecoder):
    """An encoder-decoder whose layers are stacked and scanned.

    Args:
        spec: the model's dimensions and choices.
        rngs: source of the random weights, which hold until a checkpoint is loaded.
        dtype: the type of weights and activations; norms, softmax and logits are float32 in any case.
        activations: the type of activations, where it is another.
        remat: what the backward pass recomputes, a key of ``REMAT``.

    Attributes:
        kernel: how the encoder's rows attend.
    """

    def __init__(
        self,
        spec: T5Spec,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
        activations: DTypeLike | None = None,
        remat: str = "elementwise",
    ):
        self.spec, self.dtype, self.remat = spec, jnp.dtype(activations or dtype), remat
        self.kernel: Kernel = "plain"
        sizes = spec.sizes()
        self.ends = nnx.Dict(make_weights(spec.end_parts(), sizes, rngs, dtype))
        self.encoder = nnx.Dict(make_weights(spec.layer_parts(), sizes, rngs, dtype))
        sizes["layer"] = spec.decoder_layers
        self.decoder = nnx.Dict(make_weights(spec.decoder_layer_parts(), sizes, rngs, dtype))

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        return self.spec.decoder_layers, self.spec.heads, self.spec.head_dim

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return look_up(unsharded(self.ends), "embedding", tokens).astype(self.dtype)

    def embed_targets(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return self.embed(tokens)

    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        return score(unsharded(self.ends), self.head, self._scaled(x))

    def logits_of(self, x: Float[Array, "... D"], tokens: Int[Array, ...]) -> Float[Array, ...]:
        return score_tokens(unsharded(self.ends), self.head, self._scaled(x), tokens)

    def _scaled(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return x * jnp.asarray(self.spec.logit_scale, x.dtype)

    def final_norm(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return rms_norm(x, self.ends["decoder_norm"][...], self.spec.norm_eps)

    def cross_kv(
        self,
        x: Float[Array, "S D"],
        rows: Rows,
        decoder_length: int,
    ) -> KV | None:
        if on_one_device() and decoder_length < self.spec.head_dim:
            return None

        def of_layer(w: Layer) -> KV:
            w = unsharded(self.decoder, w)
            return KV(*(rows.to_grid(linear(w, name, x)) for name in ("cross_k", "cross_v")))

        return jax.vmap(of_layer)(values(self.decoder))

    def run_encoder(
        self,
        x: Float[Array, "S D"],
        rows: Rows,
        span: tuple[int, int],
        first: int = 0,
    ) -> Float[Array, "S D"]:
        # Positions are relative: it does not matter which is the first.
        spec, positions, lengths = self.spec, jnp.arange(rows.grid.shape[1])[None], rows.lengths
        bucket = buckets(positions, positions, spec.buckets, spec.max_distance, both_ways=True)
        shared_bias = None if spec.bias_everywhere else position_bias(self.ends["encoder_bias"][...], bucket)

        stacked, layer_of = scan_over(values(self.encoder), span)

        def layer(x: Float[Array, "S D"], scanned: Any):
            w = unsharded(self.encoder, layer_of(scanned))
            bias = position_bias(w["bias"], bucket) if shared_bias is None else shared_bias

            def attention(q: Float[Array, "S N H"], kv: KV) -> Float[Array, "S N H"]:
                q, own = rows.to_grid(q), KV(*map(rows.to_grid, kv))
                return rows.to_flat(attend_within(q, own, lengths, 1.0, bias, self.kernel))

            x, _ = self_attention(spec, w, x, attention)
            return x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation), None

        x, _ = jax.lax.scan(self._rematted(layer), x, stacked)
        last = span[1] == spec.layers
        return rms_norm(x, self.ends["encoder_norm"][...], spec.norm_eps) if last else x

    def run_decoder(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "#B T"],
        encoded: Encoded,
        cache: KVCache | None = None,
        seen: Bool[Array, "B S S"] | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        spec = self.spec
        key_positions = positions if cache is None else concat_positions(cache.positions, positions)
        mask = decoder_mask(positions, key_positions, seen)
        bucket = buckets(positions, key_positions, spec.buckets, spec.max_distance, both_ways=False)
        shared_bias = None if spec.bias_everywhere else position_bias(self.ends["decoder_bias"][...], bucket)

        def layer(x: Float[Array, "B T D"], scanned: tuple[Layer, KV | None, KV | None]):
            w, cross_kv, past = unsharded(self.decoder, scanned[0]), *scanned[1:]
            bias = position_bias(w["bias"], bucket) if shared_bias is None else shared_bias

            def attention(q: Float[Array, "B T N H"], kv: KV) -> Float[Array, "B T N H"]:
                return attend(q, past.concat(kv) if past else kv, mask, scale=1.0, bias=bias)

            def cross_attention(q: Float[Array, "B T N H"]) -> Float[Array, "B T N H"]:
                return encoded.cross_attend(w, q, cross_kv, scale=1.0)

            return decoder_layer(spec, w, x, attention, cross_attention)

        scanned = (values(self.decoder), encoded.kv, None if cache is None else cache.kv)
        x, kv = jax.lax.scan(self._rematted(layer), x, scanned)
        return self.final_norm(x), KVCache(kv, positions)

    def _rematted(self, layer):
        return jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)
