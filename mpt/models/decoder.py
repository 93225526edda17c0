"""The decoder-only backbone: frozen, pure, and without knowledge of tasks and losses.

Under a causal mask a prompt's activations do not depend on the text after it. So each distinct
prompt of a batch runs once, and all its rows attend to its keys and values: the result and the
gradient are those of the prompt repeated in front of every row, at a fraction of the cost. Only
attention is computed row by row: all else runs over the texts end to end, without padding.

A prompt may enter before a later layer: the layers below then run over the texts alone. Or it may stand
after tokens that all texts have in common, which run with the prompt and not with each text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mpt.errors import UserError
from mpt.models.attention import KV, NOWHERE, Kernel, KVCache
from mpt.models.backbone import DecodingState
from mpt.models.class_scores import class_scores
from mpt.models.decoder_layer import Mixing, entered, norm, sharded_heads
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import (
    Weight,
    look_up,
    make_weights,
    score,
    score_tokens,
    shifted,
    unsharded,
)
from mpt.models.stack.delta_rule import DeltaState
from mpt.models.stack.memories import Memories
from mpt.models.stack.mixings import Together, after_cache, among_vectors, within_texts
from mpt.models.stack.per_layer import layer_inputs
from mpt.models.stack.run import run_layers
from mpt.models.stack.texts import Texts
from mpt.models.text_places import prompt_positions
from mpt.sharding import kv_copies
from mpt.types import Batch, Layout, Output

IN_FRONT = "stands in front of everything, not inside the user's turn; leave place out of the task"


class Decoder(nnx.Module):
    """A decoder whose layers are stacked and scanned.

    Args:
        spec: the model's dimensions and choices.
        rngs: source of the random weights, which hold until a checkpoint is loaded.
        dtype: the type of weights and activations; norms, softmax and logits are float32 in any case.
        activations: the type of activations, where it is another.
        remat: what the backward pass recomputes, a key of ``REMAT``.

    Attributes:
        kernel: how texts after prompts attend; a fused call leaves windows, capped scores, sinks and
            class words of several tokens to the plain formulas.
        opening: tokens in front of every prompt; texts are without them.
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
        self.opening: tuple[int, ...] = ()
        self.ends = nnx.Dict(make_weights(spec.end_parts(), spec.sizes(), rngs, dtype))
        for kind, part in spec.stacks.items():
            setattr(self, kind, nnx.Dict(make_weights(part.layer_parts(), part.sizes(), rngs, dtype)))

    def after(self, opening: tuple[int, ...]) -> Decoder:
        """The same model, which shares its weights, with other tokens in front of every prompt."""
        placed = nnx.merge(*nnx.split(self))
        placed.opening = opening
        return placed

    @property
    def stacks(self) -> dict[str, nnx.Dict]:
        """The weights of each kind of layers; where all are alike, of "layers"."""
        return {kind: getattr(self, kind) for kind in self.spec.stacks}

    @property
    def embedding(self) -> Weight:
        return self.ends["embedding"]

    @property
    def positions(self) -> int:
        return self.spec.longest

    @property
    def depth(self) -> int:
        """Above a layer that lends others its keys and values, a prompt would not be seen in these."""
        lenders = {part.shares for part in self.spec.stacks.values() if part.shares}
        return min((self._numbers(kind)[-1] + 1 for kind in lenders), default=self.spec.layers)

    @property
    def kv_shape(self) -> tuple[int, int, int] | None:
        if self.spec.kinds:
            return None
        return self.spec.layers, self.spec.kv_heads, self.spec.head_dim

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        rows = look_up(unsharded(self.ends), "embedding", tokens).astype(self.dtype)
        return rows * jnp.asarray(self.spec.embed_scale, rows.dtype)

    def layer_inputs(
        self, x: Float[Array, "*rows D"], tokens: Int[Array, "*rows"] | None
    ) -> Float[Array, "*rows layers W"] | None:
        """What each layer has of its own of embeddings; None where layers have nothing.

        Args:
            tokens: those that ``x`` are the embeddings of; None: they are vectors of prompts.
        """
        if not self.spec.per_layer:
            return None
        return layer_inputs(self.spec, unsharded(self.ends), x, tokens)

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
        """Runs each row's text after the row's prompt; logits at the label positions only."""
        text = batch.states if layer else None
        if text is None:
            text = self.lower(batch, layer, prompt_positions(prompts, prefix_kv), shift)
        own = self.layer_inputs(shifted(self.embed(batch.tokens), shift), batch.tokens)
        hidden, *_ = self._run_batch(batch, text, own, prompts, prefix_kv, (layer, self.spec.layers))
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
        own = self.layer_inputs(shifted(self.embed(batch.tokens), shift), batch.tokens)
        span = layer, self.spec.layers
        hidden, prompt, text, deltas = self._run_batch(batch, states, own, prompts, prefix_kv, span)
        lengths = jnp.sum(batch.filled, axis=1)
        last = jnp.take_along_axis(batch.grid, lengths[:, None] - 1, axis=1)[:, 0]
        cache, length = prompt.take_rows(batch.prompt_index).concat(text), prompt.positions.shape[1]
        first = None
        if layer:
            deltas = _stacked(below.deltas, deltas)
            padded = KVCache(below.kv, text.positions).with_slots_in_front(length)
            cache = cache._replace(kv=_stacked(padded.kv, cache.kv))
            numbers = {kind: jnp.array(self._numbers(kind)) for kind in cache.kv}
            first = {kind: jnp.where(number < layer, length, 0) for kind, number in numbers.items()}
        slot = jnp.asarray(cache.positions.shape[1], jnp.int32)
        state = DecodingState(
            cache.with_spare_slots(spare_slots), length + lengths, slot, None, first, deltas
        )
        return self.logits(hidden[last]), state

    def decode_step(
        self, tokens: Int[Array, " B"], state: DecodingState
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Runs one more token of each row; the logits of the next one, and the state after it."""
        positions = state.position[:, None]
        mixing = after_cache(state.cache.positions, positions)
        first = state.first or dict.fromkeys(state.cache.kv)
        past = {kind: (kv, first[kind]) for kind, kv in state.cache.kv.items()} | state.deltas
        x = self.embed(tokens[:, None])
        own = self.layer_inputs(x, tokens[:, None])
        x, kept = self._run_layers(x, positions, mixing, own, past)
        new = Memories.of(kept)
        return self.logits(x[:, 0]), state._replace(
            cache=state.cache.updated(KVCache(new.kv, positions), state.slot),
            position=state.position + 1,
            slot=state.slot + 1,
            deltas=new.deltas,
        )

    def lower(
        self, batch: Batch, layer: int, prompt_length: int, shift: Float[Array, "N D"] | None = None
    ) -> Float[Array, "N D"]:
        return self._lower(batch, layer, prompt_length, shift)[0]

    def lower_vectors(self, vectors: Float[Array, "J P D"], layer: int) -> Float[Array, "J P D"]:
        return self._run_prompts(vectors, (0, layer))[0] if layer else vectors.astype(self.dtype)

    def prompt_kv(self, prompts: Float[Array, "J P D"], layer: int = 0) -> KV:
        """The keys and values [layers, J, P, K, H] of prompts that enter before ``layer``, from it on.

        Rows see nothing else of them, where all layers are of one kind.
        """
        _, kept = self._run_prompts(prompts, (layer, self.spec.layers))
        copies = kv_copies(self.spec.kv_heads)
        return KV(*(part[..., ::copies, :] for part in kept["layers"]))

    def _run_prompts(
        self,
        prompts: Float[Array, "J P D"],
        span: tuple[int, int],
        tokens: Int[Array, "J P"] | None = None,
    ) -> tuple[Float[Array, "J P D"], dict[str, Any]]:
        """Runs prompts by themselves through the layers of ``span``; see ``_run_layers``.

        ``tokens`` are those that the prompts are the embeddings of, if they are.
        """
        positions = jnp.broadcast_to(jnp.arange(prompts.shape[1]), prompts.shape[:2])

        x = prompts.astype(self.dtype)
        own = self.layer_inputs(x, tokens)
        return self._run_layers(x, positions, among_vectors(positions), own, span=span)

    def _lower(
        self, batch: Batch, layer: int, prompt_length: int, shift: Float[Array, "N D"] | None
    ) -> tuple[Float[Array, "N D"], Memories]:
        """The texts' states before a layer, and what is kept of the layers below."""
        text = shifted(self.embed(batch.tokens), shift)
        if not layer:
            return text, Memories({}, {})
        own = self.layer_inputs(text, batch.tokens)
        if self.opening:
            if prompt_length:
                raise UserError(f"a prompt that enters before a later layer {IN_FRONT}")
            alone = batch._replace(prompt_index=jnp.zeros_like(batch.prompt_index))
            nothing = jnp.zeros((1, 0, self.spec.d_model))
            return self._run_batch(alone, text, own, nothing, None, (0, layer))[0], Memories({}, {})
        texts = Texts.of(batch)

        positions = prompt_length + texts.places.of_tokens
        states, kept = self._run_layers(text, positions, within_texts(texts), own, span=(0, layer))
        return states, Memories.of(kept)

    def _run_batch(
        self,
        batch: Batch,
        text: Float[Array, "N D"],
        own: Float[Array, "N layers W"] | None,
        prompts: Float[Array, "J P D"],
        prefix_kv: KV | None,
        span: tuple[int, int],
    ) -> tuple[Float[Array, "N D"], KVCache, KVCache, dict[str, DeltaState]]:
        """The texts' states after the layers of ``span``, the KV caches of the prompts and of the texts, and
        the states of delta rules after the texts.

        ``text`` are the states before these layers, and ``own`` what layers have of their own; what is kept
        is of these layers.

        Prompts and texts run end to end, as one sequence of S positions; see ``Together``. The opening is in
        front of each prompt, as a part of it, and the prefix is a part of the prompt's cache. The inner nodes
        of a class tree are part of the text; they attend to it, and to their ancestors, as if nothing stood
        between.
        """
        prefix_kv = prefix_kv and sharded_heads(KV(*(part.astype(self.dtype) for part in prefix_kv)))
        prefix_length = prefix_kv.k.shape[-3] if prefix_kv else 0
        if prefix_length and self.opening:
            raise UserError(f"a prompt in every layer {IN_FRONT}")
        prompts, own_of_prompts = self._after_opening(prompts, span[0])
        count, length = prompts.shape[:2]
        texts = Texts.of(batch)
        together = Together(texts, batch.prompt_index, count, length, prefix_length, batch.hidden)
        vectors = prompts.astype(self.dtype).reshape(together.prompt_tokens, self.spec.d_model)
        if own is not None and own_of_prompts is not None:
            own = jnp.concatenate([own_of_prompts.reshape(len(vectors), *own.shape[1:]), own])
        past = {"layers": prefix_kv} if prefix_kv else {}
        x, kept = self._run_layers(
            jnp.concatenate([vectors, text.astype(self.dtype)]),
            together.positions,
            together.mixing(self.kernel, self.dtype),
            own,
            past,
            span,
        )
        memories = Memories.of(kept)
        prompt_kv, text_kv = ({kind: both[i] for kind, both in memories.kv.items()} for i in (0, 1))
        if prefix_kv:
            prompt_kv["layers"] = prefix_kv.concat(prompt_kv["layers"])
        prompt = KVCache(prompt_kv, jnp.tile(together.prompt_at, (count, 1)))
        # Tokens decoded later must not attend to the padding after a short text.
        text_at = jnp.where(batch.filled, together.text_at, NOWHERE)
        return x[together.prompt_tokens :], prompt, KVCache(text_kv, text_at), memories.deltas

    def _after_opening(
        self, prompts: Float[Array, "J P D"], layer: int
    ) -> tuple[Float[Array, "J vectors D"], Float[Array, "J vectors layers W"] | None]:
        """Prompts that enter before a layer with the opening in front, and what layers have of their own."""
        prompts = prompts.astype(self.dtype)
        own = self.layer_inputs(prompts, None)
        if not self.opening:
            return prompts, own
        tokens = jnp.array([self.opening])
        embedded = self.embed(tokens)
        states = self._run_prompts(embedded, (0, layer), tokens)[0] if layer else embedded

        def in_front(of_opening: Array, of_prompts: Array) -> Array:
            each = jnp.broadcast_to(of_opening, (len(of_prompts), *of_opening.shape[1:]))
            return jnp.concatenate([each, of_prompts], axis=1)

        of_opening = self.layer_inputs(embedded, tokens)
        if own is not None and of_opening is not None:
            own = in_front(of_opening, own)
        return in_front(states, prompts), own

    def _run_layers(
        self,
        x: Float[Array, "*rows D"],
        positions: Int[Array, "*rows"],
        mixing: Mixing,
        own: Float[Array, "*rows layers W"] | None,
        past: Mapping[str, Any] | None = None,
        span: tuple[int, int] | None = None,
    ) -> tuple[Float[Array, "*rows D"], dict[str, Any]]:
        """Runs ``x`` through layers, all of them where ``span`` is left out; see ``run_layers``.

        The first layer is preceded by ``entered``, and the last one followed by the final norm.
        """
        first, last = span = span or (0, self.spec.layers)
        if first == 0:
            x = entered(self.spec, unsharded(self.ends), x, positions)
        x, kept = run_layers(self.spec, self.stacks, x, positions, mixing, past or {}, span, own, self.remat)
        return norm(self.spec, unsharded(self.ends), "final_norm", x) if last == self.spec.layers else x, kept

    def _numbers(self, kind: str) -> list[int]:
        """The numbers of the layers of a kind."""
        return [i for i, other in enumerate(self.spec.layer_kinds) if other == kind]


def _stacked(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """What is kept of lower layers and of those above, by kind."""

    def end_to_end(*parts: Array) -> Array:
        return jnp.concatenate(parts)

    both = below.keys() & above.keys()
    return below | above | {kind: jax.tree.map(end_to_end, below[kind], above[kind]) for kind in both}
