"""The decoder-only backbone: frozen, pure, and without knowledge of tasks and losses.

Under a causal mask a prompt's activations do not depend on the text behind it. So each distinct
prompt of a batch runs once, and all its rows attend to its keys and values: the result and the
gradient are those of the prompt repeated in front of every row, at a fraction of the cost. Only
attention is computed row by row: all else runs over the texts end to end, without padding.

A prompt may enter before a later layer: the layers below then run over the texts alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mpt.models.attention import (
    KV,
    NOWHERE,
    Kernel,
    KVCache,
    PartialSoftmax,
    attend,
    attend_behind,
    attend_partially,
    concat_masks,
    concat_positions,
    fused_by,
    gather,
    merge,
    visible,
)
from mpt.models.backbone import DecodingState
from mpt.models.class_scores import class_scores
from mpt.models.decoder_layer import block, entered, norm, sharded_heads
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import (
    REMAT,
    Layer,
    Weight,
    look_up,
    make_weights,
    scan_over,
    score,
    score_tokens,
    shifted,
    unsharded,
    values,
)
from mpt.models.text_places import TextPlaces, prompt_positions
from mpt.sharding import kv_copies
from mpt.types import Batch, Layout, Output

# (queries, keys and values of the same positions, the layer's weights, its part of a cache) -> output.
Attention = Callable[[Array, KV, Layer, Any], Array]


class Decoder(nnx.Module):
    """A decoder whose layers are stacked and scanned.

    Args:
        spec: the model's dimensions and choices.
        rngs: source of the random weights, which hold until a checkpoint is loaded.
        dtype: the type of weights and activations; norms, softmax and logits are float32 in any case.
        activations: the type of activations, where it is another.
        remat: what the backward pass recomputes, a key of ``REMAT``.

    Attributes:
        kernel: how texts attend behind their prompts; a fused call leaves windows, capped scores, sinks and
            class words of several tokens to the plain formulas.
    """

    layout: Layout = "decoder"

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
        activations: DTypeLike | None = None,
        remat: str = "elementwise",
    ):
        self.spec, self.dtype, self.remat = spec, jnp.dtype(activations or dtype), remat
        self.kernel: Kernel = "plain"
        self.ends = nnx.Dict(make_weights(spec.end_parts(), spec.sizes(), rngs, dtype))
        self.layers = nnx.Dict(make_weights(spec.layer_parts(), spec.sizes(), rngs, dtype))

    @property
    def embedding(self) -> Weight:
        return self.ends["embedding"]

    @property
    def positions(self) -> int:
        return self.spec.longest

    @property
    def depth(self) -> int:
        return self.spec.layers

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        return self.spec.layers, self.spec.kv_heads, self.spec.head_dim

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        rows = look_up(unsharded(self.ends), "embedding", tokens).astype(self.dtype)
        return rows * jnp.asarray(self.spec.embed_scale, rows.dtype)

    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """The logits of final hidden states, in float32."""
        return self._to_logits(score(unsharded(self.ends), self._head, x))

    def logits_of(self, x: Float[Array, "... D"], tokens: Int[Array, ...]) -> Float[Array, ...]:
        """The logit of one token for each final hidden state, in float32."""
        return self._to_logits(score_tokens(unsharded(self.ends), self._head, x, tokens))

    def output_embeddings(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return self.spec.logit_scale * look_up(unsharded(self.ends), self._head, tokens).astype(jnp.float32)

    @property
    def _head(self) -> str:
        return "embedding" if self.spec.tied else "head"

    def _to_logits(self, scores: Float[Array, ...]) -> Float[Array, ...]:
        logits, cap = self.spec.logit_scale * scores, self.spec.logit_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)

    def __call__(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        shift: Float[Array, "N D"] | None = None,
        prefix_kv: KV | None = None,
        layer: int = 0,
    ) -> Output:
        """Runs each row's text behind the row's prompt; logits at the label positions only."""
        text = batch.states if layer else None
        if text is None:
            text = self.lower(batch, layer, prompt_positions(prompts, prefix_kv), shift)
        hidden, _, _ = self._run_batch(batch, text, prompts, prefix_kv, layer)
        logits = self.logits(hidden[batch.positions[:, : batch.targets.shape[1]]])
        if batch.classes is None:
            return Output(logits, (hidden,))
        scores = class_scores(hidden, batch.classes, self.logits, self.logits_of, self.spec.vocab)
        return Output(logits, (hidden,), scores, hidden[batch.classes.branches[: len(batch.grid)]])

    def prefill(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        spare_slots: int,
        shift: Float[Array, "N D"] | None = None,
        prefix_kv: KV | None = None,
        layer: int = 0,
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Runs prompts and texts: each row's next-token logits, and a KV cache with ``spare_slots``."""
        states, below = self._lower(batch, layer, prompt_positions(prompts, prefix_kv), shift)
        hidden, prompt, text = self._run_batch(batch, states, prompts, prefix_kv, layer)
        lengths = jnp.sum(batch.filled, axis=1)
        last = jnp.take_along_axis(batch.grid, lengths[:, None] - 1, axis=1)[:, 0]
        cache, length = prompt.take_rows(batch.prompt_index).concat(text), prompt.positions.shape[1]
        first = None
        if below:
            cache = cache.with_layers_below(below)
            first = jnp.where(jnp.arange(self.spec.layers) < layer, length, 0)
        slot = jnp.asarray(cache.positions.shape[1], jnp.int32)
        cache = cache.with_spare_slots(spare_slots)
        return self.logits(hidden[last]), DecodingState(cache, length + lengths, slot, first=first)

    def decode_step(
        self, tokens: Int[Array, " B"], state: DecodingState
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Runs one more token of each row; the logits of the next one, and the state behind it."""
        positions = state.position[:, None]
        key_positions = concat_positions(state.cache.positions, positions)

        def attention(q: Float[Array, "B 1 N H"], kv: KV, w: Layer, past: Any) -> Float[Array, "B 1 N H"]:
            past, first = past
            keys = key_positions
            if first is not None:
                keys = jnp.where(keys < first, NOWHERE, keys)
            return attend(q, past.concat(kv), visible(positions, keys, w["window"]), *self.spec.scoring(w))

        past = state.cache.kv, state.first
        x, kv = self._run_layers(self.embed(tokens[:, None]), positions, attention, past)
        cache = state.cache.updated(KVCache(kv, positions), state.slot)
        return self.logits(x[:, 0]), state._replace(
            cache=cache, position=state.position + 1, slot=state.slot + 1
        )

    def lower(
        self, batch: Batch, layer: int, prompt_length: int, shift: Float[Array, "N D"] | None = None
    ) -> Float[Array, "N D"]:
        return self._lower(batch, layer, prompt_length, shift)[0]

    def lower_vectors(self, vectors: Float[Array, "J P D"], layer: int) -> Float[Array, "J P D"]:
        return self._run_prompts(vectors, (0, layer))[0] if layer else vectors.astype(self.dtype)

    def prompt_kv(self, prompts: Float[Array, "J P D"], layer: int = 0) -> KV:
        """The keys and values [layers, J, P, K, H] of prompts that enter before ``layer``, from it on.

        Rows see nothing else of them.
        """
        _, kv = self._run_prompts(prompts, (layer, self.spec.layers))
        copies = kv_copies(self.spec.kv_heads)
        return KV(*(part[..., ::copies, :] for part in kv))

    def _run_prompts(
        self, prompts: Float[Array, "J P D"], span: tuple[int, int]
    ) -> tuple[Float[Array, "J P D"], KV]:
        """Runs prompts by themselves through the layers of ``span``; see ``_run_layers``."""
        positions = jnp.broadcast_to(jnp.arange(prompts.shape[1]), prompts.shape[:2])

        def attention(q: Float[Array, "J P N H"], kv: KV, w: Layer, _: None) -> Float[Array, "J P N H"]:
            return attend(q, kv, visible(positions, positions, w["window"]), *self.spec.scoring(w))

        return self._run_layers(prompts.astype(self.dtype), positions, attention, span=span)

    def _lower(
        self, batch: Batch, layer: int, prompt_length: int, shift: Float[Array, "N D"] | None
    ) -> tuple[Float[Array, "N D"], KV | None]:
        """The texts' states before a layer, and the keys and values [layer, B, T, K, H] of those below."""
        text = shifted(self.embed(batch.tokens), shift)
        if not layer:
            return text, None
        places = TextPlaces.of(batch)

        def to_grid(flat: Float[Array, "S K H"]) -> Float[Array, "B T K H"]:
            return gather(flat, batch.grid, batch.cells)

        def attention(q: Float[Array, "S N H"], kv: KV, w: Layer, _: None) -> Float[Array, "S N H"]:
            out = attend(to_grid(q), KV(*map(to_grid, kv)), places.mask(w["window"]), *self.spec.scoring(w))
            return gather(out.reshape(-1, *q.shape[1:]), batch.cells, batch.grid)

        positions = prompt_length + places.of_tokens
        states, kv = self._run_layers(text, positions, attention, span=(0, layer))
        return states, KV(*(jax.vmap(to_grid)(part) for part in kv))

    def _run_batch(
        self,
        batch: Batch,
        text: Float[Array, "N D"],
        prompts: Float[Array, "J P D"],
        prefix_kv: KV | None,
        layer: int,
    ) -> tuple[Float[Array, "N D"], KVCache, KVCache]:
        """The final hidden states of the texts, and the KV caches of the prompts and of the texts.

        ``text`` are the states before ``layer``; the caches are those of the layers from it on.

        Prompts and texts run end to end, as one sequence of S positions. In a layer each prompt attends
        to its prefix and itself, and each row's text to its prefix, its prompt and itself. The prefix is a
        part of the prompt's cache. The inner nodes of a class tree are part of the text; they attend to it,
        and to their ancestors, as if nothing stood between.
        """
        count, length = prompts.shape[:2]
        prefix_kv = prefix_kv and sharded_heads(KV(*(part.astype(self.dtype) for part in prefix_kv)))
        prefix_length = prefix_kv.k.shape[-3] if prefix_kv else 0
        prompt_tokens, prompt_length = count * length, prefix_length + length
        prompt_at, places = jnp.arange(prompt_length)[None], TextPlaces.of(batch)
        text_at, vectors_at = prompt_length + places.columns, prompt_at[:, prefix_length:]
        positions = jnp.concatenate([jnp.tile(vectors_at[0], count), prompt_length + places.of_tokens])
        lengths = jnp.sum(batch.filled, axis=1)
        causal = places.seen is None and not (self.spec.windows or self.spec.attention_cap or self.spec.sinks)
        fused = fused_by(self.kernel, self.dtype, self.spec.head_dim) if causal else None

        def split(flat: Float[Array, "S K H"]) -> tuple[Float[Array, "J P K H"], Float[Array, "B T K H"]]:
            prompt = flat[:prompt_tokens].reshape(count, length, *flat.shape[1:])
            return prompt, gather(flat[prompt_tokens:], batch.grid, batch.cells)

        def attention(q: Float[Array, "S N H"], kv: KV, w: Layer, prefix: KV | None) -> Float[Array, "S N H"]:
            (prompt_q, text_q), *split_kv = map(split, (q, *kv))
            prompt, text = (KV(*part) for part in zip(*split_kv))
            prompt = prefix.concat(prompt) if prefix else prompt
            scoring, window = self.spec.scoring(w), w["window"]
            scale, cap, sinks = scoring
            mask = visible(vectors_at, prompt_at, window)
            prompt_out = attend(prompt_q, prompt, mask, *scoring).reshape(prompt_tokens, *q.shape[1:])
            if count == 1 and prompt_length and not fused:
                # All texts attend to the one prompt in a single product, and to themselves row by row.
                to_text = attend_partially(text_q, text, places.mask(window), scale, cap)
                at = positions[None, prompt_tokens:]
                mask = visible(at, prompt_at, window) if self.spec.windows else None
                to_prompt = attend_partially(q[None, prompt_tokens:], prompt, mask, scale, cap)
                to_prompt = PartialSoftmax(*(part[0] for part in to_prompt))
                text_out = merge([to_text.gather(batch.cells, batch.grid), to_prompt], sinks)
                return jnp.concatenate([prompt_out, text_out])
            front = prompt.take_rows(batch.prompt_index)
            if fused:
                text_out = attend_behind(text_q, front, text, lengths, scale, fused)
            else:
                mask = concat_masks(visible(text_at, prompt_at, window), places.mask(window))
                text_out = attend(text_q, front.concat(text), mask, *scoring)
            text_out = gather(text_out.reshape(-1, *q.shape[1:]), batch.cells, batch.grid)
            return jnp.concatenate([prompt_out, text_out])

        vectors = prompts.astype(self.dtype).reshape(prompt_tokens, self.spec.d_model)
        x = jnp.concatenate([vectors, text.astype(self.dtype)])
        x, kv = self._run_layers(x, positions, attention, prefix_kv, (layer, self.spec.layers))
        prompt, text_kv = (KV(*part) for part in zip(*(jax.vmap(split)(part) for part in kv)))
        prompt = prefix_kv.concat(prompt) if prefix_kv else prompt
        # Tokens decoded later must not attend to the padding behind a short text.
        text_at = jnp.where(batch.filled, text_at, NOWHERE)
        return x[prompt_tokens:], KVCache(prompt, jnp.tile(prompt_at, (count, 1))), KVCache(text_kv, text_at)

    def _run_layers(
        self,
        x: Float[Array, "*rows D"],
        positions: Int[Array, "*rows"],
        attention: Attention,
        past: Any = None,
        span: tuple[int, int] | None = None,
    ) -> tuple[Float[Array, "*rows D"], KV]:
        """Runs ``x`` through layers; also every layer's keys and values of ``x``.

        The first layer is preceded by ``entered``, and the last one followed by the final norm.

        Args:
            positions: the position of each element of ``x`` in its row.
            attention: the attention of a layer, from its queries, its keys and values of ``x``, its
                weights and its part of ``past``.
            past: what it takes besides, such as earlier keys and values, with a leading axis of layers.
            span: the layers from one to before another; all of them where left out.
        """
        first, last = span = span or (0, self.spec.layers)
        if first == 0:
            x = entered(self.spec, unsharded(self.ends), x, positions)

        angles = self.spec.angles(positions)

        stacked, layer_of = scan_over(values(self.layers) | self.spec.layer_constants(), span)

        def layer(x: Float[Array, "*rows D"], scanned: tuple[Any, Any]):
            w, past = unsharded(self.layers, layer_of(scanned[0])), scanned[1]
            layer_angles = jax.tree.map(lambda part: part[w["rope"]], angles)
            return block(self.spec, w, x, layer_angles, lambda q, kv: attention(q, kv, w, past))

        layer = jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)
        x, kv = jax.lax.scan(layer, x, (stacked, past))
        return norm(self.spec, unsharded(self.ends), "final_norm", x) if last == self.spec.layers else x, kv
