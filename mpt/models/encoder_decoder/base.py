"""What all encoder-decoder backbones are: frozen, pure, without knowledge of tasks and losses.

The prompt stands in front of the encoder's text, as if its vectors were tokens. An encoder is
bidirectional, so a prompt's activations depend on the text and rows cannot share them. But only attention
is computed row by row: all else in the encoder runs over prompts and texts end to end, without padding.

A decoder of few tokens makes no keys and values of the encoder's output, where they are a product of it: its
queries and the attended states go through these maps instead, which is the same product in another order,
over far fewer rows.

A prompt may enter before a later layer of the encoder: the layers below then run over the texts alone.
"""

from __future__ import annotations

import abc
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import KV, NOWHERE, Kernel, KVCache, visible
from mpt.models.backbone import DecodingState
from mpt.models.class_scores import class_scores
from mpt.models.decoder_layer import sharded_heads
from mpt.models.encoder_decoder.encoded import Encoded
from mpt.models.layers import Weight, look_up, shifted, unsharded
from mpt.models.stack.rows import Rows
from mpt.types import Batch, Layout, Output


class EncoderDecoder(nnx.Module, abc.ABC):
    """An encoder-decoder whose layers are stacked; a family says what its layers and its ends are.

    Attributes:
        spec: the model's dimensions and choices.
        dtype: the type of activations.
        ends: the weights outside the layers.
        encoder: those of the encoder's layers.
        decoder: those of the decoder's.
        kernel: how the encoder's rows attend.
        remat: what the backward pass recomputes, a key of ``REMAT``.
    """

    layout: Layout = "encoder-decoder"
    opening = ()
    spec: Any
    dtype: jnp.dtype
    ends: nnx.Dict
    encoder: nnx.Dict
    decoder: nnx.Dict
    kernel: Kernel
    remat: str

    @property
    def embedding(self) -> Weight:
        return self.ends["embedding"]

    @property
    def depth(self) -> int:
        return self.spec.layers

    @property
    def positions(self) -> int:
        return self.spec.longest

    @property
    @abc.abstractmethod
    def kv_shape(self) -> tuple[int, int, int]: ...

    @abc.abstractmethod
    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]: ...

    @abc.abstractmethod
    def embed_targets(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        """The embeddings of tokens as the decoder's first layer sees them."""

    @abc.abstractmethod
    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """The logits of final hidden states, in float32."""

    @abc.abstractmethod
    def logits_of(self, x: Float[Array, "... D"], tokens: Int[Array, ...]) -> Float[Array, ...]:
        """The logit of one token for each final hidden state, in float32."""

    @abc.abstractmethod
    def final_norm(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """The norm in front of the head."""

    @property
    def head(self) -> str:
        """The name of the table that gives the logits."""
        return self.spec.target_table if self.spec.tied else "head"

    def output_embeddings(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return self.spec.logit_scale * look_up(unsharded(self.ends), self.head, tokens).astype(jnp.float32)

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
        tokens = self.decoded(batch)
        columns, seen = jnp.arange(tokens.shape[1])[None], None
        if tree is not None:
            # The inner nodes of a class tree follow the targets; only they attend to one another.
            tokens, columns, seen = jnp.concatenate([tokens, tree.nodes], axis=1), tree.columns, tree.seen
        count, text = self.spec.decoder_prompt, batch.states if layer else None
        if text is None:
            text = self.lower(batch, layer, prompts.shape[1], shift)
        encoded, text, decoder_prompt = self._encode(batch, text, prompts, count + tokens.shape[1], layer)
        x = self.begun(decoder_prompt, tokens)
        prefix, first = self._prefix(prefix_kv, batch.prompt_index)
        positions = first + jnp.concatenate(
            [jnp.broadcast_to(jnp.arange(count), (len(columns), count)), count + columns], axis=1
        )
        x, _ = self.run_decoder(x, positions, encoded, prefix, seen)
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
        begin = self.begun(decoder_prompt, jnp.full((rows, 1), self.spec.start_token))
        prefix, first = self._prefix(prefix_kv, batch.prompt_index)
        positions = jnp.broadcast_to(first + jnp.arange(length), (rows, length))
        x, cache = self.run_decoder(begin, positions, encoded, prefix)
        cache = prefix.concat(cache) if prefix else cache
        slot = jnp.asarray(first + length, jnp.int32)
        state = DecodingState(
            cache.with_spare_slots(spare_slots), jnp.full(rows, first + length), slot, encoded
        )
        return self.logits(x[:, -1]), state

    def decode_step(
        self, tokens: Int[Array, " B"], state: DecodingState
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Runs one more token of each row; the logits of the next one, and the state after it."""
        assert state.encoded is not None
        x = self.embed_targets(tokens[:, None])
        x, new = self.run_decoder(x, state.position[:, None], state.encoded, state.cache)
        cache = state.cache.updated(new, state.slot)
        return self.logits(x[:, 0]), DecodingState(cache, state.position + 1, state.slot + 1, state.encoded)

    def lower(
        self, batch: Batch, layer: int, prompt_length: int, shift: Float[Array, "N D"] | None = None
    ) -> Float[Array, "N D"]:
        text = shifted(self.embed(batch.tokens), shift)
        rows = Rows(batch.grid, batch.cells)
        return self.run_encoder(text, rows, (0, layer), prompt_length) if layer else text

    def lower_vectors(self, vectors: Float[Array, "J P D"], layer: int) -> Float[Array, "J P D"]:
        count, length, width = vectors.shape
        cells = jnp.arange(count * length)
        flat = vectors.reshape(-1, width).astype(self.dtype)
        if layer:
            flat = self.run_encoder(flat, Rows(cells.reshape(count, length), cells), (0, layer))
        return flat.reshape(vectors.shape)

    def decoded(self, batch: Batch) -> Int[Array, "B L"]:
        """What the decoder reads: the start token, and the targets without their last one."""
        return jnp.pad(batch.targets[:, :-1], [(0, 0), (1, 0)], constant_values=self.spec.start_token)

    def begun(
        self, decoder_prompt: Float[Array, "B Q D"], tokens: Int[Array, "B T"]
    ) -> Float[Array, "B Q+T _D"]:
        """The decoder's part of each prompt, and the embeddings of tokens after it."""
        x = self.embed_targets(tokens)  # of another width than prompts, perhaps, if there is no such part
        return jnp.concatenate([decoder_prompt, x], axis=1) if self.spec.decoder_prompt else x

    def _prefix(self, prefix_kv: KV | None, prompt_index: Int[Array, " B"]) -> tuple[KVCache | None, int]:
        """The cache in front of the decoder's text, with each row's prefix if there is one; its length."""
        if prefix_kv is None:
            return None, 0
        kv = sharded_heads(KV(*(part.astype(self.dtype) for part in prefix_kv))).take_rows(prompt_index)
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
        spec, (lines, width) = self.spec, batch.grid.shape
        count = prompts.shape[1] - spec.decoder_prompt
        own_prompts = prompts.astype(self.dtype)[batch.prompt_index]  # [B, P, D]
        prompt_tokens = lines * count
        x = jnp.concatenate(
            [
                own_prompts[:, :count].reshape(prompt_tokens, spec.d_model),
                text.astype(self.dtype),
            ]
        )
        # Prompts and texts run end to end, and attend in a grid with a row to a line.
        fronts = (count + width) * jnp.arange(lines)[:, None] + jnp.arange(count)[None]
        cells = jnp.concatenate([fronts.reshape(-1), batch.cells + count * (batch.cells // width + 1)])
        grid = jnp.concatenate(
            [jnp.arange(prompt_tokens).reshape(lines, count), prompt_tokens + batch.grid], axis=1
        )
        rows = Rows(grid, cells)
        x = self.run_encoder(x, rows, (layer, spec.layers))
        encoded = Encoded(rows.to_grid(x), rows.real, self.cross_kv(x, rows, decoder_length))
        return encoded, x[prompt_tokens:], own_prompts[:, count:]

    @abc.abstractmethod
    def cross_kv(
        self,
        x: Float[Array, "S D"],
        rows: Rows,
        decoder_length: int,
    ) -> KV | None:
        """The keys and values [layers, B, T, K, H] that the decoder has of the encoder's output ``x``.

        None: few tokens will be decoded, so that it is cheaper without them.

        Args:
            rows: where the rows of ``x`` are.
            decoder_length: number of positions that the decoder will run.
        """

    @abc.abstractmethod
    def run_encoder(
        self,
        x: Float[Array, "S D"],
        rows: Rows,
        span: tuple[int, int],
        first: int = 0,
    ) -> Float[Array, "S D"]:
        """Runs ``x`` through the encoder's layers of ``span``; the final norm follows the last layer.

        Args:
            rows: where the rows of ``x`` are.
            first: the position of each row's first element.
        """

    @abc.abstractmethod
    def run_decoder(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "#B T"],
        encoded: Encoded,
        cache: KVCache | None = None,
        seen: Bool[Array, "B S S"] | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """Runs ``x`` through the decoder, after ``cache``: final hidden states, and the cache of ``x``.

        Args:
            seen: which of the last S positions of ``x`` may attend to which, if not all to those before them.
        """


def decoder_mask(
    positions: Int[Array, "#B T"],
    key_positions: Int[Array, "#B S"],
    seen: Bool[Array, "B R R"] | None,
    window: int | Int[Array, ""] = NOWHERE,
) -> Bool[Array, "#B 1 T S"]:
    """Which positions of a decoder's texts attend to which; ``seen`` is that of ``run_decoder``."""
    mask = visible(positions, key_positions, window)
    if seen is None:
        return mask
    before = [mask.shape[axis] - seen.shape[1] for axis in (2, 3)]
    return mask & jnp.pad(seen, [(0, 0), *((count, 0) for count in before)], constant_values=True)[:, None]
