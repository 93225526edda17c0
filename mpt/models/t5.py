"""The encoder-decoder backbone: T5 and its kin, frozen, pure, and unaware of tasks and losses.

The prompt stands in front of the encoder's text, as if its vectors were tokens. An encoder sees both
ways, so a prompt's activations depend on the text and nothing can be shared between rows. But only
attention knows rows: all else in the encoder runs over prompts and texts laid end to end, unpadded.

A decoder that writes few tokens makes no keys and values of what was encoded: its queries and what they
find go through these maps instead, which is the same product in another order, over far fewer rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import KV, Memory, attend, attend_within, join_positions, rearranged, visible
from mpt.models.backbone import State
from mpt.models.layers import (
    REMAT,
    Layer,
    Weight,
    feed_forward,
    linear,
    look_up,
    make_weights,
    matrix,
    moved,
    rms_norm,
    score,
    values,
    whole,
)
from mpt.sharding import on_one_device
from mpt.types import Batch, Layout, Output


@dataclass(frozen=True)
class T5Spec:
    """What sets one T5 apart from another.

    Attributes:
        vocab: tokens; with the next six, the sizes of the package's legend.
        activation: of the feed-forward.
        gated: the activation multiplies a second projection (T5 1.1).
        buckets: of the relative positions.
        max_distance: beyond it all relative positions are one.
        bias_everywhere: each layer has its own table of relative positions (UMT5).
        logit_scale: factor on the final hidden states before the head.
        tied: the embedding table is the output head.
        start_token: what the decoder reads before the first target.
        decoder_prompt: how many of a prompt's last vectors stand before the decoder's text instead.
    """

    vocab: int
    d_model: int
    layers: int
    decoder_layers: int
    heads: int
    head_dim: int
    d_ff: int
    activation: str
    gated: bool
    buckets: int
    max_distance: int
    bias_everywhere: bool
    norm_eps: float
    logit_scale: float
    tied: bool
    start_token: int = 0
    decoder_prompt: int = 0

    def sizes(self) -> dict[str, int]:
        """The length of each logical axis; that of the layers is the encoder's."""
        return {
            "vocab": self.vocab,
            "embed": self.d_model,
            "layer": self.layers,
            "heads": self.heads,
            "head_dim": self.head_dim,
            "mlp": self.d_ff,
            "bucket": self.buckets,
        }

    def end_parts(self) -> dict[str, str]:
        """The weights before and behind the layers, with their logical axes."""
        parts = {"embedding": "vocab embed", "encoder_norm": "embed", "decoder_norm": "embed"}
        if not self.bias_everywhere:
            parts |= {"encoder_bias": "bucket heads", "decoder_bias": "bucket heads"}
        if not self.tied:
            parts["head"] = "vocab embed"
        return parts

    def layer_parts(self) -> dict[str, str]:
        """The weights of an encoder layer, stacked over the layers, with their logical axes."""
        parts = attention_parts("") | {"mlp_norm": "embed", "up": "embed mlp", "down": "mlp embed"}
        if self.gated:
            parts["gate"] = "embed mlp"
        if self.bias_everywhere:
            parts["bias"] = "bucket heads"
        return {name: f"layer {axes}" for name, axes in parts.items()}

    def decoder_layer_parts(self) -> dict[str, str]:
        """Those of a decoder layer: an encoder layer's, and the attention to the encoder."""
        cross = {name: f"layer {axes}" for name, axes in attention_parts("cross_").items()}
        return self.layer_parts() | cross


def attention_parts(prefix: str) -> dict[str, str]:
    projection = "embed heads head_dim"
    parts = {
        "norm": "embed",
        "q": projection,
        "k": projection,
        "v": projection,
        "out": "heads head_dim embed",
    }
    return {prefix + name: axes for name, axes in parts.items()}


class Encoded(NamedTuple):
    """What the decoder attends to.

    Attributes:
        hidden: the encoder's final hidden states.
        there: True where there is a prompt or text.
        kv: the keys and values that every layer of the decoder makes of them, if that pays.
    """

    hidden: Float[Array, "B S D"]
    there: Bool[Array, "B S"]
    kv: KV | None

    def rows(self, index: Int[Array, " B"]) -> Encoded:
        """That of other rows: ``index`` says which of these each of those reads."""
        return Encoded(self.hidden[index], self.there[index], self.kv and self.kv.rows(index))

    def found(self, w: Layer, q: Float[Array, "B T N H"], kv: KV | None) -> Float[Array, "B T N H"]:
        """What a layer's queries find here; ``kv`` are the layer's keys and values, if they were made."""
        there = self.there[:, None, None]
        if kv:
            return attend(q, kv, there, scale=1.0)
        # q (x K) is (q K') x', and a (x V) is (a x) V: x is every head's keys as well as values.
        q = jnp.einsum("btnh,dnh->btnd", q, matrix(w, "cross_k", q.dtype))
        one = self.hidden[:, :, None]
        return jnp.einsum(
            "btnd,dnh->btnh", attend(q, KV(one, one), there, scale=1.0), matrix(w, "cross_v", q.dtype)
        )


class T5(nnx.Module):
    """An encoder-decoder with its layers stacked and scanned.

    Args:
        spec: the model's dimensions and choices.
        rngs: source of the random weights that stand until a checkpoint is loaded.
        dtype: type of weights and activations; norms, softmax and logits are float32 whatever it is.
        remat: what the backward pass recomputes, a key of ``REMAT``.
    """

    layout: Layout = "encoder-decoder"

    def __init__(self, spec: T5Spec, *, rngs: nnx.Rngs, dtype=jnp.float32, remat: str = "elementwise"):
        self.spec, self.dtype, self.remat = spec, jnp.dtype(dtype), remat
        sizes = spec.sizes()
        self.ends = nnx.Dict(make_weights(spec.end_parts(), sizes, rngs, dtype))
        self.encoder = nnx.Dict(make_weights(spec.layer_parts(), sizes, rngs, dtype))
        sizes["layer"] = spec.decoder_layers
        self.decoder = nnx.Dict(make_weights(spec.decoder_layer_parts(), sizes, rngs, dtype))

    @property
    def embedding(self) -> Weight:
        return self.ends["embedding"]

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return look_up(whole(self.ends), "embedding", tokens).astype(self.dtype)

    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits of final hidden states, in float32."""
        x = x * jnp.asarray(self.spec.logit_scale, x.dtype)
        return score(whole(self.ends), "embedding" if self.spec.tied else "head", x)

    def __call__(
        self, batch: Batch, prompts: Float[Array, "J P D"], shift: Float[Array, "N D"] | None = None
    ) -> Output:
        """Encodes each row's prompt and text, and reads its targets; one logit row per target."""
        written = batch.targets.shape[1] + self.spec.decoder_prompt
        encoded, text, decoder_prompt = self._encode(batch, prompts, shift, written)
        shifted = jnp.pad(batch.targets[:, :-1], [(0, 0), (1, 0)], constant_values=self.spec.start_token)
        x = jnp.concatenate([decoder_prompt, self.embed(shifted)], axis=1)
        x, _ = self._decode(x, jnp.arange(x.shape[1])[None], encoded)
        hidden = x[:, decoder_prompt.shape[1] :]
        return Output(self.logits(hidden), (text, hidden))

    def start(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        room: int,
        shift: Float[Array, "N D"] | None = None,
    ) -> tuple[Float[Array, "B V"], State]:
        """Encodes prompts and texts; the logits of each row's first token, with ``room`` for more."""
        written = room + 1 + self.spec.decoder_prompt
        encoded, _, decoder_prompt = self._encode(batch, prompts, shift, written)
        rows, length = len(batch.targets), decoder_prompt.shape[1] + 1
        begin = self.embed(jnp.full((rows, 1), self.spec.start_token))
        positions = jnp.broadcast_to(jnp.arange(length), (rows, length))
        x, memory = self._decode(jnp.concatenate([decoder_prompt, begin], axis=1), positions, encoded)
        slot = jnp.asarray(length, jnp.int32)
        state = State(memory.with_room(room), jnp.full(rows, length), slot, encoded)
        return self.logits(x[:, -1]), state

    def step(self, tokens: Int[Array, " B"], state: State) -> tuple[Float[Array, "B V"], State]:
        """Reads one more token per row; the logits of the next."""
        assert state.encoded is not None
        x = self.embed(tokens[:, None])
        x, own = self._decode(x, state.position[:, None], state.encoded, state.memory)
        memory = state.memory.written(own, state.slot)
        return self.logits(x[:, 0]), State(memory, state.position + 1, state.slot + 1, state.encoded)

    def _encode(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        shift: Float[Array, "N D"] | None,
        written: int,
    ) -> tuple[Encoded, Float[Array, "N D"], Float[Array, "B Q D"]]:
        """What the decoder attends to, the final hidden states of the text, and the decoder's prompt.

        Args:
            written: positions of the decoder's text, to the end.
        """
        spec, (rows, width) = self.spec, batch.grid.shape
        count = prompts.shape[1] - spec.decoder_prompt
        own = prompts.astype(self.dtype)[batch.prompt_index]  # [B, P, D]
        ahead = rows * count
        x = jnp.concatenate(
            [own[:, :count].reshape(ahead, spec.d_model), moved(self.embed(batch.tokens), shift)]
        )
        # Prompts and texts lie end to end; where each stands in a grid of rows, and the other way round.
        fronts = (count + width) * jnp.arange(rows)[:, None] + jnp.arange(count)[None]
        cells = jnp.concatenate([fronts.reshape(-1), batch.cells + count * (batch.cells // width + 1)])
        grid = jnp.concatenate([jnp.arange(ahead).reshape(rows, count), ahead + batch.grid], axis=1)
        there = grid < len(x)
        lengths = jnp.sum(there, axis=1)
        positions = jnp.arange(count + width)[None]
        bucket = buckets(positions, positions, spec.buckets, spec.max_distance, both_ways=True)
        shared = None if spec.bias_everywhere else position_bias(self.ends["encoder_bias"][...], bucket)

        def spread(flat: Float[Array, "S ..."]) -> Float[Array, "B T ..."]:
            return rearranged(flat, grid, cells)

        def layer(x: Float[Array, "S D"], w: Layer):
            w = whole(self.encoder, w)
            bias = position_bias(w["bias"], bucket) if shared is None else shared

            def look(q: Float[Array, "S N H"], own: KV) -> Float[Array, "S N H"]:
                out = attend_within(spread(q), KV(*map(spread, own)), lengths, scale=1.0, bias=bias)
                return rearranged(out.reshape(-1, *q.shape[1:]), cells, grid)

            x, _ = self_attention(spec, w, x, look)
            return x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation), None

        x, _ = jax.lax.scan(self._rematted(layer), x, values(self.encoder))
        x = rms_norm(x, self.ends["encoder_norm"][...], spec.norm_eps)

        def cross(w: Layer) -> KV:
            w = whole(self.decoder, w)
            return KV(spread(linear(w, "cross_k", x)), spread(linear(w, "cross_v", x)))

        few = on_one_device() and written < spec.head_dim
        kv = None if few else jax.vmap(cross)(values(self.decoder))
        return Encoded(spread(x), there, kv), x[ahead:], own[:, count:]

    def _decode(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "#B T"],
        encoded: Encoded,
        memory: Memory | None = None,
    ) -> tuple[Float[Array, "B T D"], Memory]:
        """Final hidden states of the decoder, behind what ``memory`` holds; and the memory of ``x``."""
        spec = self.spec
        seen = positions if memory is None else join_positions(memory.positions, positions)
        mask = visible(positions, seen)
        bucket = buckets(positions, seen, spec.buckets, spec.max_distance, both_ways=False)
        shared = None if spec.bias_everywhere else position_bias(self.ends["decoder_bias"][...], bucket)

        def layer(x: Float[Array, "B T D"], scanned: tuple[Layer, KV | None, KV | None]):
            w, cross, past = whole(self.decoder, scanned[0]), *scanned[1:]
            bias = position_bias(w["bias"], bucket) if shared is None else shared

            def look(q: Float[Array, "B T N H"], own: KV) -> Float[Array, "B T N H"]:
                return attend(q, past.joined(own) if past else own, mask, scale=1.0, bias=bias)

            def look_across(q: Float[Array, "B T N H"]) -> Float[Array, "B T N H"]:
                return encoded.found(w, q, cross)

            return decoder_layer(spec, w, x, look, look_across)

        scanned = (values(self.decoder), encoded.kv, None if memory is None else memory.kv)
        x, own = jax.lax.scan(self._rematted(layer), x, scanned)
        return rms_norm(x, self.ends["decoder_norm"][...], spec.norm_eps), Memory(own, positions)

    def _rematted(self, layer):
        return jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)


def self_attention(
    spec: T5Spec, w: Layer, x: Float[Array, "*rows D"], look: Callable[[Array, KV], Array]
) -> tuple[Float[Array, "*rows D"], KV]:
    """Attention of a stack to itself. Returns also the keys and values of ``x``'s own positions."""
    h = rms_norm(x, w["norm"], spec.norm_eps)
    own = KV(linear(w, "k", h), linear(w, "v", h))
    return x + linear(w, "out", look(linear(w, "q", h), own), axes=2), own


def decoder_layer(
    spec: T5Spec,
    w: Layer,
    x: Float[Array, "*rows D"],
    look: Callable[[Array, KV], Array],
    look_across: Callable[[Array], Array],
) -> tuple[Float[Array, "*rows D"], KV]:
    """One layer of the decoder, which also looks at what was encoded; the rest as in ``self_attention``."""
    x, own = self_attention(spec, w, x, look)
    q = linear(w, "cross_q", rms_norm(x, w["cross_norm"], spec.norm_eps))
    x = x + linear(w, "cross_out", look_across(q), axes=2)
    return x + feed_forward(w, rms_norm(x, w["mlp_norm"], spec.norm_eps), spec.activation), own


def position_bias(table: Float[Array, "buckets N"], bucket: Int[Array, "#B T S"]) -> Float[Array, "#B N T S"]:
    """What is added to the attention scores of each pair of positions."""
    return jnp.moveaxis(table.astype(jnp.float32)[bucket], -1, 1)


def buckets(
    queries: Int[Array, "#B T"], keys: Int[Array, "#B S"], count: int, max_distance: int, both_ways: bool
) -> Int[Array, "#B T S"]:
    """The bucket of each key's position relative to each query's (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, the others ever more, up to ``max_distance``. Where a
    stack sees both ways, later positions have buckets of their own.

    >>> buckets(jnp.array([[9]]), jnp.array([[9, 8, 6, 1, 11]]), 8, 16, both_ways=True)[0, 0]
    Array([0, 1, 2, 3, 6], dtype=int32)
    """
    distance = queries[:, :, None] - keys[:, None, :]
    offset = 0
    if both_ways:
        count //= 2
        offset = jnp.where(distance < 0, count, 0)
        distance = jnp.abs(distance)
    distance = jnp.maximum(distance, 0)
    exact = count // 2
    # Compared in float32, as the models were trained: the rounding at a bucket's edge is part of them.
    ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / jnp.log(
        jnp.float32(max_distance / exact)
    )
    far = exact + (ratio * (count - exact)).astype(jnp.int32)
    return offset + jnp.where(distance < exact, distance, jnp.minimum(far, count - 1))
