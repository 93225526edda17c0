"""The decoder-only backbone: frozen, pure, and unaware of tasks and losses.

Under a causal mask a prompt's activations do not depend on the text behind it. So each distinct
prompt of a batch runs once, and all its rows attend to its keys and values: the result and the
gradient are those of the prompt repeated in front of every row, at a fraction of the cost. And only
attention knows rows: all else runs over the texts laid end to end, with no padding between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from mpt.models.attention import (
    KV,
    NOWHERE,
    Memory,
    Share,
    attend,
    attend_to_some,
    join_positions,
    joined,
    rearranged,
    visible,
)
from mpt.models.backbone import State
from mpt.models.layers import (
    REMAT,
    Layer,
    Weight,
    feed_forward,
    layer_norm,
    linear,
    look_up,
    make_weights,
    moved,
    rms_norm,
    score,
    values,
    whole,
)
from mpt.models.rope import Angles, Rope, rotate
from mpt.sharding import by_tensor, kv_copies
from mpt.types import Batch, Layout, Output

# (queries, their own keys and values, the layer's weights, its part of a memory) -> attended values.
Look = Callable[[Array, KV, Layer, Any], Array]


@dataclass(frozen=True)
class DecoderSpec:
    """What sets one decoder apart from another.

    Attributes:
        vocab: tokens; with the next six, the sizes of the package's legend.
        ropes: each layer's rotation; empty where positions are learned.
        windows: how many positions each layer sees; empty where all see everything.
        positions: rows of the learned position table; 0 where positions are rotated.
        norm: root-mean-square or layer norm.
        norm_offset: added to the norms' stored scales.
        qk_norm: queries and keys are normed, head by head.
        post_norms: attention and feed-forward are normed behind as well as before.
        gated: the feed-forward's activation multiplies a second projection.
        biases: names of the linear maps that have a bias.
        embed_scale: factor on token embeddings; prompts are taken as they are.
        attention_scale: factor on the attention scores.
        attention_cap: tanh bound of the attention scores.
        logit_cap: tanh bound of the logits.
        tied: the embedding table is the output head.
    """

    vocab: int
    d_model: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    d_ff: int
    ropes: tuple[Rope, ...]
    norm_eps: float
    tied: bool
    windows: tuple[int, ...] = ()
    positions: int = 0
    norm: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0
    qk_norm: bool = False
    post_norms: bool = False
    activation: str = "silu"
    gated: bool = True
    biases: tuple[str, ...] = ()
    embed_scale: float = 1.0
    attention_scale: float | None = None
    attention_cap: float | None = None
    logit_cap: float | None = None

    @property
    def scoring(self) -> tuple[float, float | None]:
        """Scale and cap of the attention scores."""
        return self.attention_scale or self.head_dim**-0.5, self.attention_cap

    def sizes(self) -> dict[str, int]:
        """The length of each logical axis."""
        return {
            "vocab": self.vocab,
            "embed": self.d_model,
            "layer": self.layers,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "mlp": self.d_ff,
            "position": self.positions,
        }

    def end_parts(self) -> dict[str, str]:
        """The weights before and behind the layers, with their logical axes."""
        parts = {"embedding": "vocab embed", "final_norm": "embed"}
        if self.positions:
            parts["position_table"] = "position embed"
        if self.norm == "layer":
            parts["final_norm_bias"] = "embed"
        if not self.tied:
            parts["head"] = "vocab embed"
        return parts

    def layer_parts(self) -> dict[str, str]:
        """The weights of a layer, stacked over the layers, with their logical axes."""
        parts = {
            "attention_norm": "embed",
            "q": "embed heads head_dim",
            "k": "embed kv_heads head_dim",
            "v": "embed kv_heads head_dim",
            "out": "heads head_dim embed",
            "mlp_norm": "embed",
            "up": "embed mlp",
            "down": "mlp embed",
        }
        if self.gated:
            parts["gate"] = "embed mlp"
        if self.qk_norm:
            parts |= {"q_norm": "head_dim", "k_norm": "head_dim"}
        if self.post_norms:
            parts |= {"attention_post_norm": "embed", "mlp_post_norm": "embed"}
        outputs = {name: axes.split(" ", 1)[1] for name, axes in parts.items() if name in self.biases}
        outputs |= {"out": "embed"} if "out" in self.biases else {}
        parts |= {f"{name}_bias": axes for name, axes in outputs.items()}
        if self.norm == "layer":
            parts |= {"attention_norm_bias": "embed", "mlp_norm_bias": "embed"}
        return {name: f"layer {axes}" for name, axes in parts.items()}

    def layer_constants(self) -> dict[str, Array]:
        """What differs between layers without being a weight, stacked over the layers."""
        different = list(dict.fromkeys(self.ropes))
        return {
            "window": jnp.array(self.windows or (NOWHERE,) * self.layers),
            "rope": jnp.array([different.index(rope) for rope in self.ropes] or (0,) * self.layers),
        }

    def angles(self, positions: Int[Array, "*rows"]) -> Angles | None:
        """The rotations of each different rope, stacked; taken here, once for all layers."""
        different = dict.fromkeys(self.ropes)
        if not different:
            return None
        frequencies = np.stack([rope.frequencies(self.head_dim) for rope in different])
        return jax.vmap(Angles.at, (None, 0))(positions, jnp.array(frequencies, jnp.float32))


class Decoder(nnx.Module):
    """A decoder with its layers stacked and scanned.

    Args:
        spec: the model's dimensions and choices.
        rngs: source of the random weights that stand until a checkpoint is loaded.
        dtype: type of weights and activations; norms, softmax and logits are float32 whatever it is.
        remat: what the backward pass recomputes, a key of ``REMAT``.
    """

    layout: Layout = "decoder"

    def __init__(self, spec: DecoderSpec, *, rngs: nnx.Rngs, dtype=jnp.float32, remat: str = "elementwise"):
        self.spec, self.dtype, self.remat = spec, jnp.dtype(dtype), remat
        self.ends = nnx.Dict(make_weights(spec.end_parts(), spec.sizes(), rngs, dtype))
        self.layers = nnx.Dict(make_weights(spec.layer_parts(), spec.sizes(), rngs, dtype))

    @property
    def embedding(self) -> Weight:
        return self.ends["embedding"]

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        rows = look_up(whole(self.ends), "embedding", tokens).astype(self.dtype)
        return rows * jnp.asarray(self.spec.embed_scale, rows.dtype)

    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits of final hidden states, in float32."""
        logits = score(whole(self.ends), "embedding" if self.spec.tied else "head", x)
        cap = self.spec.logit_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)

    def __call__(
        self, batch: Batch, prompts: Float[Array, "J P D"], shift: Float[Array, "N D"] | None = None
    ) -> Output:
        """Reads each row's text behind the row's prompt; logits only at the label positions."""
        hidden, _, _ = self._read(batch, prompts, shift)
        return Output(self.logits(hidden[batch.positions]), (hidden,))

    def start(
        self,
        batch: Batch,
        prompts: Float[Array, "J P D"],
        room: int,
        shift: Float[Array, "N D"] | None = None,
    ) -> tuple[Float[Array, "B V"], State]:
        """Reads prompts and texts; the logits of each row's next token, with ``room`` for more."""
        hidden, prompt, text = self._read(batch, prompts, shift)
        lengths = jnp.sum(batch.filled, axis=1)
        last = jnp.take_along_axis(batch.grid, lengths[:, None] - 1, axis=1)[:, 0]
        memory = prompt.rows(batch.prompt_index).joined(text)
        slot = jnp.asarray(memory.positions.shape[1], jnp.int32)
        state = State(memory.with_room(room), prompts.shape[1] + lengths, slot)
        return self.logits(hidden[last]), state

    def step(self, tokens: Int[Array, " B"], state: State) -> tuple[Float[Array, "B V"], State]:
        """Reads one more token per row; the logits of the next."""
        positions = state.position[:, None]
        seen = join_positions(state.memory.positions, positions)

        def look(q: Float[Array, "B 1 N H"], own: KV, w: Layer, past: KV) -> Float[Array, "B 1 N H"]:
            return attend(q, past.joined(own), visible(positions, seen, w["window"]), *self.spec.scoring)

        x, own = self._run(self.embed(tokens[:, None]), positions, look, state.memory.kv)
        memory = state.memory.written(Memory(own, positions), state.slot)
        return self.logits(x[:, 0]), State(memory, state.position + 1, state.slot + 1)

    def _read(
        self, batch: Batch, prompts: Float[Array, "J P D"], shift: Float[Array, "N D"] | None
    ) -> tuple[Float[Array, "N D"], Memory, Memory]:
        """Final hidden states of the texts; the memories of the prompts and of the texts.

        Prompts and texts lie end to end. In a layer, prompts see themselves, and each row's text sees
        its prompt and itself.
        """
        count, length, width = *prompts.shape[:2], batch.grid.shape[1]
        ahead = count * length
        prompt_at, text_at = jnp.arange(length)[None], length + jnp.arange(width)[None]
        positions = jnp.concatenate([jnp.tile(prompt_at[0], count), length + batch.cells % width])

        def split(flat: Float[Array, "S K H"]) -> tuple[Float[Array, "J P K H"], Float[Array, "B T K H"]]:
            prompt = flat[:ahead].reshape(count, length, *flat.shape[1:])
            return prompt, rearranged(flat[ahead:], batch.grid, batch.cells)

        def look(q: Float[Array, "S N H"], kv: KV, w: Layer, _: None) -> Float[Array, "S N H"]:
            (prompt_q, text_q), *both = map(split, (q, *kv))
            prompt, text = (KV(*part) for part in zip(*both))
            scoring, window = self.spec.scoring, w["window"]
            mask = visible(prompt_at, prompt_at, window)
            prompt_saw = attend(prompt_q, prompt, mask, *scoring).reshape(ahead, *q.shape[1:])
            if count == 1 and length:
                # All texts look at the one prompt in one product; at themselves, row by row.
                own = attend_to_some(text_q, text, visible(text_at, text_at, window), *scoring)
                mask = visible(positions[None, ahead:], prompt_at, window) if self.spec.windows else None
                shared = attend_to_some(q[None, ahead:], prompt, mask, *scoring)
                shares = [own.rearranged(batch.cells, batch.grid), Share(*(part[0] for part in shared))]
                return jnp.concatenate([prompt_saw, joined(shares)])
            mask = visible(text_at, join_positions(prompt_at, text_at), window)
            text_saw = attend(text_q, prompt.rows(batch.prompt_index).joined(text), mask, *scoring)
            text_saw = rearranged(text_saw.reshape(-1, *q.shape[1:]), batch.cells, batch.grid)
            return jnp.concatenate([prompt_saw, text_saw])

        start = prompts.astype(self.dtype).reshape(ahead, self.spec.d_model)
        text = moved(self.embed(batch.tokens), shift)
        x, kv = self._run(jnp.concatenate([start, text]), positions, look)
        prompt, text = (KV(*part) for part in zip(*(jax.vmap(split)(part) for part in kv)))
        # What is read later must not see the padding between a short text and itself.
        there = jnp.where(batch.filled, text_at, NOWHERE)
        return x[ahead:], Memory(prompt, jnp.tile(prompt_at, (count, 1))), Memory(text, there)

    def _run(
        self, x: Float[Array, "*rows D"], positions: Int[Array, "*rows"], look: Look, past: KV | None = None
    ) -> tuple[Float[Array, "*rows D"], KV]:
        """Runs ``x`` through the layers and the final norm; also every layer's keys and values.

        Args:
            positions: where each of ``x`` stands in its row.
            look: the attention, given the queries, the keys and values of ``x``, the layer's weights
                and its part of ``past``.
        """
        if self.spec.positions:
            x = x + look_up(whole(self.ends), "position_table", positions)

        angles = self.spec.angles(positions)

        def layer(x: Float[Array, "*rows D"], scanned: tuple[Layer, KV | None]):
            w, past = whole(self.layers, scanned[0]), scanned[1]
            own_angles = jax.tree.map(lambda part: part[w["rope"]], angles)
            return block(self.spec, w, x, own_angles, lambda q, own: look(q, own, w, past))

        layer = jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)
        stacked = values(self.layers) | self.spec.layer_constants()
        x, own = jax.lax.scan(layer, x, (stacked, past))
        return norm(self.spec, whole(self.ends), "final_norm", x), own


def block(
    spec: DecoderSpec,
    w: Layer,
    x: Float[Array, "*rows D"],
    angles: Angles | None,
    look: Callable[[Array, KV], Array],
) -> tuple[Float[Array, "*rows D"], KV]:
    """One layer. Returns its output and the keys and values of ``x``."""
    h = norm(spec, w, "attention_norm", x)
    q, k, v = (linear(w, name, h) for name in ("q", "k", "v"))
    if spec.qk_norm:
        q, k = (
            rms_norm(y, w[f"{name}_norm"], spec.norm_eps, spec.norm_offset)
            for name, y in (("q", q), ("k", k))
        )
    if angles is not None:
        q, k = (rotate(y, angles) for y in (q, k))
    # As many KV heads as can be dealt out; each query head's are then on its own device.
    copies = kv_copies(spec.kv_heads)
    k, v = (jnp.repeat(y, copies, axis=-2) if copies > 1 else y for y in (k, v))
    q, k, v = (
        by_tensor(y, heads, "head_dim") for y, heads in ((q, "heads"), (k, "kv_heads"), (v, "kv_heads"))
    )
    own = KV(k, v)
    h = by_tensor(linear(w, "out", look(q, own), axes=2), "embed")
    x = x + (norm(spec, w, "attention_post_norm", h) if spec.post_norms else h)

    h = by_tensor(feed_forward(w, norm(spec, w, "mlp_norm", x), spec.activation), "embed")
    return x + (norm(spec, w, "mlp_post_norm", h) if spec.post_norms else h), own


def norm(spec: DecoderSpec, w: Layer, name: str, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    if spec.norm == "layer":
        return layer_norm(x, w[name], w[f"{name}_bias"], spec.norm_eps)
    return rms_norm(x, w[name], spec.norm_eps, spec.norm_offset)
