"""The encoder-decoder backbone: T5 and its variants, frozen, pure, without knowledge of tasks and losses.

The prompt stands in front of the encoder's text, as if its vectors were tokens. An encoder is
bidirectional, so a prompt's activations depend on the text and rows cannot share them. But only attention
is computed row by row: all else in the encoder runs over prompts and texts end to end, without padding.

A decoder of few tokens makes no keys and values of the encoder's output: its queries and the attended
states go through these maps instead, which is the same product in another order, over far fewer rows.

A prompt may enter before a later layer of the encoder: the layers below then run over the texts alone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import KV, Kernel, KVCache, attend, attend_within, concat_positions, gather, visible
from mpt.models.backbone import DecodingState
from mpt.models.class_scores import class_scores
from mpt.models.layers import (
    REMAT,
    Layer,
    Weight,
    feed_forward,
    linear,
    look_up,
    make_weights,
    rms_norm,
    scan_over,
    score,
    score_tokens,
    shifted,
    unsharded,
    values,
)
from mpt.models.t5_layers import Encoded, buckets, decoder_layer, position_bias, self_attention
from mpt.models.t5_spec import T5Spec
from mpt.sharding import on_one_device
from mpt.types import Batch, Layout, Output


class T5(nnx.Module):
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

    layout: Layout = "encoder-decoder"

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
    def embedding(self) -> Weight:
        return self.ends["embedding"]

    @property
    def positions(self) -> int:
        return 0  # they are relative

    @property
    def depth(self) -> int:
        return self.spec.layers

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        return self.spec.decoder_layers, self.spec.heads, self.spec.head_dim

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return look_up(unsharded(self.ends), "embedding", tokens).astype(self.dtype)

    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """The logits of final hidden states, in float32."""
        return score(unsharded(self.ends), self._head, self._scaled(x))

    def logits_of(self, x: Float[Array, "... D"], tokens: Int[Array, ...]) -> Float[Array, ...]:
        """The logit of one token for each final hidden state, in float32."""
        return score_tokens(unsharded(self.ends), self._head, self._scaled(x), tokens)

    def output_embeddings(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        rows = look_up(unsharded(self.ends), self._head, tokens).astype(jnp.float32)
        return rows * self.spec.logit_scale

    @property
    def _head(self) -> str:
        return "embedding" if self.spec.tied else "head"

    def _scaled(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return x * jnp.asarray(self.spec.logit_scale, x.dtype)

    def __call__(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        shift: Float[Array, "N D"] | None = None,
        prefix_kv: KV | None = None,
        layer: int = 0,
    ) -> Output:
        """Encodes each row's prompt and text, and decodes its targets; logits at each target."""
        tree, labels = batch.classes, batch.targets.shape[1]
        tokens = jnp.pad(batch.targets[:, :-1], [(0, 0), (1, 0)], constant_values=self.spec.start_token)
        columns, seen = jnp.arange(tokens.shape[1])[None], None
        if tree is not None:
            # The inner nodes of a class tree stand behind the targets, where only they see one another.
            tokens, columns, seen = jnp.concatenate([tokens, tree.nodes], axis=1), tree.columns, tree.seen
        count, text = self.spec.decoder_prompt, batch.states if layer else None
        if text is None:
            text = self.lower(batch, layer, prompts.shape[1], shift)
        encoded, text, decoder_prompt = self._encode(batch, text, prompts, count + tokens.shape[1], layer)
        x = jnp.concatenate([decoder_prompt, self.embed(tokens)], axis=1)
        prefix, first = self._prefix(prefix_kv, batch.prompt_index)
        positions = first + jnp.concatenate(
            [jnp.broadcast_to(jnp.arange(count), (len(columns), count)), count + columns], axis=1
        )
        x, _ = self._decode(x, positions, encoded, prefix, seen)
        hidden = x[:, count:]
        output = Output(self.logits(hidden[:, :labels]), (text, hidden[:, :labels]))
        if tree is None:
            return output
        flat = hidden.reshape(-1, hidden.shape[-1])
        scores = class_scores(flat, tree, self.logits, self.logits_of, self.spec.vocab)
        return output._replace(classes=scores, roots=flat[tree.branches[: len(hidden)]])

    def prefill(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        spare_slots: int,
        shift: Float[Array, "N D"] | None = None,
        prefix_kv: KV | None = None,
        layer: int = 0,
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Encodes prompts and texts: each row's first logits, and a KV cache with ``spare_slots``."""
        rows, length = len(batch.targets), self.spec.decoder_prompt + 1
        text = self.lower(batch, layer, prompts.shape[1], shift)
        encoded, _, decoder_prompt = self._encode(batch, text, prompts, length + spare_slots, layer)
        begin = self.embed(jnp.full((rows, 1), self.spec.start_token))
        prefix, first = self._prefix(prefix_kv, batch.prompt_index)
        positions = jnp.broadcast_to(first + jnp.arange(length), (rows, length))
        x, cache = self._decode(jnp.concatenate([decoder_prompt, begin], axis=1), positions, encoded, prefix)
        cache = prefix.concat(cache) if prefix else cache
        slot = jnp.asarray(first + length, jnp.int32)
        state = DecodingState(
            cache.with_spare_slots(spare_slots), jnp.full(rows, first + length), slot, encoded
        )
        return self.logits(x[:, -1]), state

    def decode_step(
        self, tokens: Int[Array, " B"], state: DecodingState
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Runs one more token of each row; the logits of the next one, and the state behind it."""
        assert state.encoded is not None
        x = self.embed(tokens[:, None])
        x, new = self._decode(x, state.position[:, None], state.encoded, state.cache)
        cache = state.cache.updated(new, state.slot)
        return self.logits(x[:, 0]), DecodingState(cache, state.position + 1, state.slot + 1, state.encoded)

    def lower(
        self, batch: Batch, layer: int, prompt_length: int, shift: Float[Array, "N D"] | None = None
    ) -> Float[Array, "N D"]:
        # Positions are relative: the prompt's length does not matter here.
        text = shifted(self.embed(batch.tokens), shift)
        return self._run_encoder(text, batch.grid, batch.cells, (0, layer)) if layer else text

    def lower_vectors(self, vectors: Float[Array, "J P D"], layer: int) -> Float[Array, "J P D"]:
        count, length, width = vectors.shape
        cells = jnp.arange(count * length)
        flat = vectors.reshape(-1, width).astype(self.dtype)
        if layer:
            flat = self._run_encoder(flat, cells.reshape(count, length), cells, (0, layer))
        return flat.reshape(vectors.shape)

    def _prefix(self, prefix_kv: KV | None, prompt_index: Int[Array, " B"]) -> tuple[KVCache | None, int]:
        """The cache in front of the decoder's text, with each row's prefix if there is one; its length."""
        if prefix_kv is None:
            return None, 0
        kv = KV(*(part.astype(self.dtype) for part in prefix_kv)).take_rows(prompt_index)
        length = kv.k.shape[-3]
        return KVCache(kv, jnp.arange(length)[None]), length

    def _encode(
        self,
        batch: Batch,
        text: Float[Array, "N D"],
        prompts: Float[Array, "J P D"],
        decoder_length: int,
        layer: int,
    ) -> tuple[Encoded, Float[Array, "N D"], Float[Array, "B Q D"]]:
        """The encoder's output, the final hidden states of the text, and the decoder's part of each prompt.

        Args:
            text: the states of the texts before ``layer``, where the prompts enter.
            decoder_length: number of positions that the decoder will run, which decides whether the keys
                and values of the cross-attention are computed here.
        """
        spec, (rows, width) = self.spec, batch.grid.shape
        count = prompts.shape[1] - spec.decoder_prompt
        own_prompts = prompts.astype(self.dtype)[batch.prompt_index]  # [B, P, D]
        prompt_tokens = rows * count
        x = jnp.concatenate(
            [
                own_prompts[:, :count].reshape(prompt_tokens, spec.d_model),
                text.astype(self.dtype),
            ]
        )
        # Prompts and texts run end to end: ``cells`` has the place of each in a grid with a row to a line,
        # and ``grid`` is its inverse.
        fronts = (count + width) * jnp.arange(rows)[:, None] + jnp.arange(count)[None]
        cells = jnp.concatenate([fronts.reshape(-1), batch.cells + count * (batch.cells // width + 1)])
        grid = jnp.concatenate(
            [jnp.arange(prompt_tokens).reshape(rows, count), prompt_tokens + batch.grid], axis=1
        )
        x = self._run_encoder(x, grid, cells, (layer, spec.layers))

        def to_grid(flat: Float[Array, "S ..."]) -> Float[Array, "B T ..."]:
            return gather(flat, grid, cells)

        def cross_kv(w: Layer) -> KV:
            w = unsharded(self.decoder, w)
            return KV(to_grid(linear(w, "cross_k", x)), to_grid(linear(w, "cross_v", x)))

        few = on_one_device() and decoder_length < spec.head_dim
        kv = None if few else jax.vmap(cross_kv)(values(self.decoder))
        return Encoded(to_grid(x), grid < len(x), kv), x[prompt_tokens:], own_prompts[:, count:]

    def _run_encoder(
        self,
        x: Float[Array, "S D"],
        grid: Int[Array, "B T"],
        cells: Int[Array, " S"],
        span: tuple[int, int],
    ) -> Float[Array, "S D"]:
        """Runs ``x`` through the encoder's layers of ``span``; the final norm follows the last layer.

        Args:
            grid: the place in ``x`` of each position of each row; ``cells`` is its inverse.
        """
        spec, lengths, positions = self.spec, jnp.sum(grid < len(x), axis=1), jnp.arange(grid.shape[1])[None]
        bucket = buckets(positions, positions, spec.buckets, spec.max_distance, both_ways=True)
        shared_bias = None if spec.bias_everywhere else position_bias(self.ends["encoder_bias"][...], bucket)

        stacked, layer_of = scan_over(values(self.encoder), span)

        def to_grid(flat: Float[Array, "S ..."]) -> Float[Array, "B T ..."]:
            return gather(flat, grid, cells)

        def layer(x: Float[Array, "S D"], scanned: Any):
            w = unsharded(self.encoder, layer_of(scanned))
            bias = position_bias(w["bias"], bucket) if shared_bias is None else shared_bias

            def attention(q: Float[Array, "S N H"], kv: KV) -> Float[Array, "S N H"]:
                own = KV(*map(to_grid, kv))
                out = attend_within(to_grid(q), own, lengths, scale=1.0, bias=bias, kernel=self.kernel)
                return gather(out.reshape(-1, *q.shape[1:]), cells, grid)

            x, _ = self_attention(spec, w, x, attention)
            return x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation), None

        x, _ = jax.lax.scan(self._rematted(layer), x, stacked)
        last = span[1] == spec.layers
        return rms_norm(x, self.ends["encoder_norm"][...], spec.norm_eps) if last else x

    def _decode(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "#B T"],
        encoded: Encoded,
        cache: KVCache | None = None,
        seen: Bool[Array, "B S S"] | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """Runs ``x`` through the decoder, behind ``cache``: final hidden states, and the cache of ``x``.

        Args:
            seen: which of the last S positions of ``x`` may attend to which, if not all to those before them.
        """
        spec = self.spec
        key_positions = positions if cache is None else concat_positions(cache.positions, positions)
        mask = visible(positions, key_positions)
        if seen is not None:
            before = [mask.shape[axis] - seen.shape[1] for axis in (2, 3)]
            mask &= jnp.pad(seen, [(0, 0), *((count, 0) for count in before)], constant_values=True)[:, None]
        bucket = buckets(positions, key_positions, spec.buckets, spec.max_distance, both_ways=False)
        shared_bias = None if spec.bias_everywhere else position_bias(self.ends["decoder_bias"][...], bucket)

        def layer(x: Float[Array, "B T D"], scanned: tuple[Layer, KV | None, KV | None]):
            w, cross_kv, past = unsharded(self.decoder, scanned[0]), *scanned[1:]
            bias = position_bias(w["bias"], bucket) if shared_bias is None else shared_bias

            def attention(q: Float[Array, "B T N H"], kv: KV) -> Float[Array, "B T N H"]:
                return attend(q, past.concat(kv) if past else kv, mask, scale=1.0, bias=bias)

            def cross_attention(q: Float[Array, "B T N H"]) -> Float[Array, "B T N H"]:
                return encoded.cross_attend(w, q, cross_kv)

            return decoder_layer(spec, w, x, attention, cross_attention)

        scanned = (values(self.decoder), encoded.kv, None if cache is None else cache.kv)
        x, kv = jax.lax.scan(self._rematted(layer), x, scanned)
        return rms_norm(x, self.ends["decoder_norm"][...], spec.norm_eps), KVCache(kv, positions)

    def _rematted(self, layer):
        return jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)
