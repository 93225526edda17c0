"""How positions read one another, in each way of running a decoder's layers; see ``Mixing``."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import (
    KV,
    NOWHERE,
    Kernel,
    PartialSoftmax,
    attend,
    attend_after,
    attend_partially,
    attend_within,
    concat_masks,
    concat_positions,
    fused_by,
    merge,
    visible,
)
from mpt.models.decoder_layer import Mixing
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import Layer
from mpt.models.stack.delta_rule import DeltaState, Inputs, read_rows
from mpt.models.stack.rows import Rows
from mpt.models.stack.texts import Texts


def among_vectors(positions: Int[Array, "J P"]) -> Mixing:
    """Of prompts, or other embedded texts of one length, by themselves."""

    def attention(spec: DecoderSpec, w: Layer, _: None, q: Float[Array, "J P N H"], kv: KV):
        out = attend(q, kv, visible(positions, positions, w["window"]), *spec.scoring(w))
        return out, None if spec.shares else kv

    def delta(spec: DecoderSpec, w: Layer, _: None, inputs: Inputs):
        return read_rows(w, spec.activation, inputs)

    return Mixing(attention, delta)


def within_texts(texts: Texts) -> Mixing:
    """Of texts that have nothing in front; their keys and values are kept row by row."""

    def attention(spec: DecoderSpec, w: Layer, _: None, q: Float[Array, "N heads H"], kv: KV):
        rows = KV(*map(texts.to_grid, kv))
        out = attend(texts.to_grid(q), rows, texts.places.mask(w["window"]), *spec.scoring(w))
        return texts.to_flat(out), None if spec.shares else rows

    def delta(spec: DecoderSpec, w: Layer, _: None, inputs: Inputs):
        out, state = texts.read(spec, w, jax.tree.map(texts.to_grid, inputs), None)
        return texts.to_flat(out), state

    return Mixing(attention, delta)


def both_ways(
    rows: Rows,
    kernel: Kernel,
) -> Mixing:
    """Of an encoder's rows, whose positions see earlier and later ones; nothing is kept of them."""

    def attention(spec: DecoderSpec, w: Layer, _: None, q: Float[Array, "S N H"], kv: KV):
        scale, cap, _sinks = spec.scoring(w)
        reach = (w["window"], w["ahead"]) if spec.windows else None
        own = KV(*map(rows.to_grid, kv))
        out = attend_within(rows.to_grid(q), own, rows.lengths, scale, kernel=kernel, cap=cap, reach=reach)
        return rows.to_flat(out), None

    return Mixing(attention)


def after_cache(cached: Int[Array, "B S"], positions: Int[Array, "B 1"]) -> Mixing:
    """Of each row's new token, after all that is cached at the positions ``cached``.

    What a layer with attention has of the past is its cache, and the first position that it attends to.
    """
    key_positions = concat_positions(cached, positions)

    def attention(spec: DecoderSpec, w: Layer, past: Any, q: Float[Array, "B 1 N H"], kv: KV):
        cache, first = past
        keys = key_positions if first is None else jnp.where(key_positions < first, NOWHERE, key_positions)
        out = attend(q, cache.concat(kv), visible(positions, keys, w["window"]), *spec.scoring(w))
        return out, None if spec.shares else kv

    def delta(spec: DecoderSpec, w: Layer, past: DeltaState, inputs: Inputs):
        return read_rows(w, spec.activation, inputs, past)

    return Mixing(attention, delta)


class Together(NamedTuple):
    """Prompts, and after them the texts of a batch, end to end as one sequence of S positions.

    Attributes:
        texts: the texts.
        prompt_index: the index of each row's prompt.
        prompts: number of prompts.
        length: vectors of each.
        prefix: positions in front of each.
        hidden: what texts must not attend to; see ``Batch``.
    """

    texts: Texts
    prompt_index: Int[Array, " B"]
    prompts: int
    length: int
    prefix: int
    hidden: Bool[Array, "B S"] | None = None

    @property
    def prompt_tokens(self) -> int:
        """Number of vectors of all prompts."""
        return self.prompts * self.length

    @property
    def prompt_at(self) -> Int[Array, "1 S"]:
        """The positions of a prefix and its prompt."""
        return jnp.arange(self.prefix + self.length)[None]

    @property
    def text_at(self) -> Int[Array, "#B T"]:
        """The position of each cell of the texts."""
        return self.prefix + self.length + self.texts.places.columns

    @property
    def positions(self) -> Int[Array, " S"]:
        """The position of each element in its row."""
        vectors = jnp.tile(self.prompt_at[0, self.prefix :], self.prompts)
        return jnp.concatenate([vectors, self.prefix + self.length + self.texts.places.of_tokens])

    def split(self, flat: Float[Array, "S ..."]) -> tuple[Float[Array, "J P ..."], Float[Array, "B T ..."]]:
        """The prompts, and the texts with one row to a line."""
        prompt = flat[: self.prompt_tokens].reshape(self.prompts, self.length, *flat.shape[1:])
        return prompt, self.texts.to_grid(flat[self.prompt_tokens :])

    def joined(self, prompt: Float[Array, "J P ..."], text: Float[Array, "N ..."]) -> Float[Array, "S ..."]:
        """The inverse, of texts that lie end to end."""
        return jnp.concatenate([prompt.reshape(self.prompt_tokens, *prompt.shape[2:]), text])

    def mixing(self, kernel: Kernel, dtype: DTypeLike) -> Mixing:
        """Each prompt reads its prefix and itself; each row's text its prefix, its prompt and itself.

        What a layer with attention has of the past is its prefixes. The keys and values of prompts, without
        prefixes, and of texts are kept in two parts.

        Args:
            kernel: how texts after prompts attend.
            dtype: the type of activations.
        """

        def attention(spec: DecoderSpec, w: Layer, prefix: KV | None, q: Float[Array, "S N H"], kv: KV):
            (prompt_q, text_q), *parts = map(self.split, (q, *kv))
            own, text = (KV(*part) for part in zip(*parts))
            prompt = prefix.concat(own) if prefix else own
            mask = visible(self.prompt_at[:, self.prefix :], self.prompt_at, w["window"])
            prompt_out = attend(prompt_q, prompt, mask, *spec.scoring(w))
            text_out = self._attend(spec, w, q[self.prompt_tokens :], text_q, prompt, text, kernel, dtype)
            return self.joined(prompt_out, text_out), None if spec.shares else (own, text)

        def delta(spec: DecoderSpec, w: Layer, _: None, inputs: Inputs) -> tuple[Array, DeltaState]:
            split = jax.tree.map(self.split, inputs)
            prompt, text = jax.tree.transpose(jax.tree.structure(inputs), None, split)
            if not self.length:
                text_out, state = self.texts.read(spec, w, text, None)
                return self.texts.to_flat(text_out), state
            prompt_out, state = read_rows(w, spec.activation, prompt)
            text_out, state = self.texts.read(spec, w, text, state.take_rows(self.prompt_index))
            return self.joined(prompt_out, self.texts.to_flat(text_out)), state

        return Mixing(attention, delta)

    def _attend(
        self,
        spec: DecoderSpec,
        w: Layer,
        flat_q: Float[Array, "tokens N H"],
        q: Float[Array, "B T N H"],
        prompt: KV,
        text: KV,
        kernel: Kernel,
        dtype: DTypeLike,
    ) -> Float[Array, "tokens N H"]:
        """The attention of the texts to their prompts and to themselves; ``flat_q`` are their queries too."""
        scoring, window, texts = spec.scoring(w), w["window"], self.texts
        scale, cap, sinks = scoring
        causal = texts.places.seen is None and self.hidden is None
        causal = causal and not (spec.windows or cap or spec.sinks)
        fused = fused_by(kernel, dtype, spec.head_dim) if causal else None
        if self.prompts == 1 and self.prompt_at.size and not fused:
            # All texts attend to the one prompt in a single product, and to themselves row by row.
            to_text = attend_partially(q, text, texts.places.mask(window), scale, cap)
            at = self.positions[None, self.prompt_tokens :]
            mask = visible(at, self.prompt_at, window) if spec.windows else None
            if self.hidden is not None:
                row, _ = jnp.divmod(texts.cells, texts.grid.shape[1])  # padding's is clipped
                shown = ~self.hidden.at[row].get(mode="clip")[None, None]
                mask = shown if mask is None else mask & shown
            to_prompt = attend_partially(flat_q[None], prompt, mask, scale, cap)
            to_prompt = PartialSoftmax(*(part[0] for part in to_prompt))
            return merge([to_text.gather(texts.cells, texts.grid), to_prompt], sinks)
        front = prompt.take_rows(self.prompt_index)
        if fused:
            return texts.to_flat(attend_after(q, front, text, texts.lengths, scale, fused))
        to_front = visible(self.text_at, self.prompt_at, window)
        if self.hidden is not None:
            to_front = to_front & ~self.hidden[:, None, None]
        mask = concat_masks(to_front, texts.places.mask(window))
        return texts.to_flat(attend(q, front.concat(text), mask, *scoring))
