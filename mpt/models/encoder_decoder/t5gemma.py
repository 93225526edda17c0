"""T5Gemma and T5Gemma 2: an encoder-decoder of Gemma's layers, whose positions are rotations.

The layers are those of ``decoder_layer``. In the encoder they see both ways. In the decoder they read the
encoder's output too, by an attention after their own, or in the same one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import KV, Kernel, KVCache, attend, concat_masks, concat_positions
from mpt.models.decoder_layer import Mixing, entered, head_norm, sharded_heads
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.base import EncoderDecoder, decoder_mask
from mpt.models.encoder_decoder.encoded import Encoded
from mpt.models.encoder_decoder.t5gemma_spec import T5GemmaSpec
from mpt.models.layers import (
    Layer,
    linear,
    look_up,
    make_weights,
    rms_norm,
    score,
    score_tokens,
    unsharded,
    values,
)
from mpt.models.stack.mixings import both_ways
from mpt.models.stack.rows import Rows
from mpt.models.stack.run import run_layers
from mpt.sharding import on_one_device


class T5Gemma(EncoderDecoder):
    """An encoder-decoder of Gemma's layers; the arguments are those of ``T5``."""

    def __init__(
        self,
        spec: T5GemmaSpec,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
        activations: DTypeLike | None = None,
        remat: str = "elementwise",
    ):
        self.spec, self.dtype, self.remat = spec, jnp.dtype(activations or dtype), remat
        self.kernel: Kernel = "plain"
        of_encoder = make_weights(spec.encoder_ends(), spec.encoder.sizes(), rngs, dtype)
        of_decoder = make_weights(spec.decoder_ends(), spec.decoder.sizes(), rngs, dtype)
        self.ends = nnx.Dict(of_encoder | of_decoder)
        for name, part in spec.stacks.items():
            setattr(self, name, nnx.Dict(make_weights(part.layer_parts(), part.sizes(), rngs, dtype)))

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        return self.spec.decoder.layers, self.spec.decoder.kv_heads, self.spec.decoder.head_dim

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return self._rows(self.spec.encoder, "embedding", tokens)

    def embed_targets(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return self._rows(self.spec.decoder, self.spec.target_table, tokens)

    def _rows(self, part: DecoderSpec, table: str, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        ends, special = unsharded(self.ends), self.spec.image_end
        rows = look_up(ends, table, tokens).astype(self.dtype) * jnp.asarray(part.embed_scale, self.dtype)
        if special is None:
            return rows
        own = jnp.broadcast_to(ends["image_end"].astype(self.dtype), rows.shape)
        return jnp.where((tokens == special)[..., None], own, rows)

    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        return self._capped(score(unsharded(self.ends), self.head, x))

    def logits_of(self, x: Float[Array, "... D"], tokens: Int[Array, ...]) -> Float[Array, ...]:
        return self._capped(score_tokens(unsharded(self.ends), self.head, x, tokens))

    def _capped(self, logits: Float[Array, ...]) -> Float[Array, ...]:
        cap = self.spec.decoder.logit_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)

    def final_norm(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return self._norm(self.spec.decoder, "decoder_norm", x)

    def _norm(self, part: DecoderSpec, name: str, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return rms_norm(x, self.ends[name][...], part.norm_eps, part.norm_offset)

    def cross_kv(self, x: Float[Array, "S D"], rows: Rows, decoder_length: int) -> KV | None:
        part, prefix = self.spec.decoder, "" if self.spec.merged else "cross_"
        # Neither a norm of keys nor a bias goes through another order of the products.
        linear_alone = not self.spec.merged and not part.biases
        if linear_alone and on_one_device() and decoder_length * part.heads < part.kv_heads * part.head_dim:
            return None

        def of_layer(w: Layer) -> KV:
            w = unsharded(self.decoder, w)
            k, v = (linear(w, f"{prefix}{name}", x) for name in ("k", "v"))
            k = head_norm(part, w["k_norm"], k) if self.spec.merged and part.qk_norm else k
            return KV(*map(rows.to_grid, sharded_heads(KV(k, v))))

        return jax.vmap(of_layer)(values(self.decoder))

    def run_encoder(
        self, x: Float[Array, "S D"], rows: Rows, span: tuple[int, int], first: int = 0
    ) -> Float[Array, "S D"]:
        mixing = both_ways(rows, self.kernel)
        return self.through_encoder(x, first + rows.positions, mixing, span)[0]

    def through_encoder(
        self,
        x: Float[Array, "*rows D"],
        positions: Int[Array, "*#rows"],
        mixing: Mixing,
        span: tuple[int, int],
    ) -> tuple[Float[Array, "*rows D"], Any]:
        """Runs ``x`` through the encoder's layers of ``span``, and what ``mixing`` keeps of them."""
        part = self.spec.encoder
        if span[0] == 0:
            x = entered(part, {}, x, positions)
        x, kept = run_layers(part, {"layers": self.encoder}, x, positions, mixing, {}, span, remat=self.remat)
        return (self._norm(part, "encoder_norm", x) if span[1] == part.layers else x), kept["layers"]

    def run_decoder(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "#B T"],
        encoded: Encoded,
        cache: KVCache | None = None,
        seen: Bool[Array, "B S S"] | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        at = positions if cache is None else concat_positions(cache.positions, positions)

        def attention(spec: DecoderSpec, w: Layer, past: Any, q: Float[Array, "B T N H"], kv: KV):
            cross_kv, cached = past
            whole = cached.concat(kv) if cached else kv
            mask = decoder_mask(positions, at, seen, w["window"])
            if self.spec.merged:
                whole, mask = whole.concat(cross_kv), concat_masks(mask, encoded.real[:, None, None])
            return attend(q, whole, mask, *spec.scoring(w)), kv

        def across(spec: DecoderSpec, w: Layer, past: Any, q: Float[Array, "B T N H"]):
            scale, cap, _sinks = spec.scoring(w)
            return encoded.cross_attend(w, q, past[0], scale, cap), None

        past = encoded.kv, None if cache is None else cache.kv
        x, kept = self.through_decoder(x, positions, Mixing(attention, across=across), past)
        return x, KVCache(kept if self.spec.merged else kept[0], positions)

    def through_decoder(
        self, x: Float[Array, "B T D"], positions: Int[Array, "#B T"], mixing: Mixing, past: Any
    ) -> tuple[Float[Array, "B T D"], Any]:
        """Runs ``x`` through the decoder, and what ``mixing`` keeps of its layers.

        Args:
            past: what each layer's ``mixing`` reads, with a leading axis of layers.
        """
        part = self.spec.decoder
        x = entered(part, {}, x, positions)
        x, kept = run_layers(
            part,
            {"layers": self.decoder},
            x,
            positions,
            mixing,
            {"layers": past},
            (0, part.layers),
            remat=self.remat,
        )
        return self.final_norm(x), kept["layers"]
