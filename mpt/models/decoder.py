"""The decoder-only backbone: frozen, pure, and unaware of tasks and losses.

Under a causal mask a prompt's activations do not depend on the text behind it. So each distinct
prompt of a batch runs once, and all its rows attend to its keys and values: the result and the
gradient are those of the prompt repeated in front of every row, at a fraction of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.data.batches import Batch, Layout
from mpt.models.attention import KV, NOWHERE, Memory, attend, join_positions, visible
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
    rms_norm,
    score,
    values,
)
from mpt.models.output import Output
from mpt.models.rope import Rope, rotate


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
        constants = {"window": jnp.array(self.windows or (NOWHERE,) * self.layers)}
        if self.ropes:
            frequencies = [rope.frequencies(self.head_dim) for rope in self.ropes]
            constants["frequency"] = jnp.array(np.stack(frequencies), jnp.float32)
        return constants


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
        rows = look_up(values(self.ends), "embedding", tokens).astype(self.dtype)
        return rows * jnp.asarray(self.spec.embed_scale, rows.dtype)

    def logits(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits of final hidden states, in float32."""
        logits = score(values(self.ends), "embedding" if self.spec.tied else "head", x)
        cap = self.spec.logit_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)

    def __call__(self, batch: Batch, prompts: Float[Array, "J P D"]) -> Output:
        """Reads each row's text behind the row's prompt; logits only at the label positions."""
        hidden, _, _ = self._read_batch(batch, prompts)
        labelled = jnp.take_along_axis(hidden, batch.positions[..., None], axis=1)  # [B, L, D]
        return Output(self.logits(labelled), (hidden,))

    def start(
        self, batch: Batch, prompts: Float[Array, "J P D"], room: int
    ) -> tuple[Float[Array, "B V"], State]:
        """Reads prompts and texts; the logits of each row's next token, with ``room`` for more."""
        hidden, prompt, text = self._read_batch(batch, prompts)
        lengths = jnp.sum(batch.text, axis=1)
        last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]
        # A later token must not see the padding between a short text and itself.
        positions = jnp.where(batch.text, text.positions, NOWHERE)
        prompt = Memory(prompt.kv, jnp.broadcast_to(prompt.positions, prompts.shape[:2]))
        memory = prompt.rows(batch.prompt_index).joined(Memory(text.kv, positions))
        slot = jnp.asarray(memory.positions.shape[1], jnp.int32)
        return self.logits(last), State(memory.with_room(room), prompts.shape[1] + lengths, slot)

    def step(self, tokens: Int[Array, " B"], state: State) -> tuple[Float[Array, "B V"], State]:
        """Reads one more token per row; the logits of the next."""
        x, own = self._read(self.embed(tokens[:, None]), state.position[:, None], state.memory)
        memory = state.memory.written(own, state.slot)
        return self.logits(self._final(x)[:, 0]), State(memory, state.position + 1, state.slot + 1)

    def _read_batch(
        self, batch: Batch, prompts: Float[Array, "J P D"]
    ) -> tuple[Float[Array, "B T D"], Memory, Memory]:
        """Final hidden states of the texts; the memories of the prompts and of the texts."""
        past, length = prompts.shape[1], batch.tokens.shape[1]
        x = prompts.astype(self.dtype)
        _, prompt = self._read(x, jnp.arange(past)[None])
        positions = past + jnp.arange(length)[None]
        text, own = self._read(self.embed(batch.tokens), positions, prompt, batch.prompt_index)
        return self._final(text), prompt, own

    def _read(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "#B T"],
        memory: Memory | None = None,
        rows: Int[Array, " B"] | None = None,
    ) -> tuple[Float[Array, "B T D"], Memory]:
        """Runs ``x`` through the layers, behind what ``memory`` holds.

        Args:
            rows: the row of ``memory`` that each row of ``x`` continues; None for its own.
        """
        seen = positions if memory is None else join_positions(memory.positions, positions)
        if self.spec.positions:
            x = x + look_up(values(self.ends), "position_table", positions)

        def layer(x: Float[Array, "B T D"], scanned: tuple[Layer, KV | None]):
            w, past = scanned
            if past is not None and rows is not None:
                past = KV(past.k[rows], past.v[rows])
            return block(self.spec, w, x, positions, visible(positions, seen, w["window"]), past)

        layer = jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)
        stacked = values(self.layers) | self.spec.layer_constants()
        x, own = jax.lax.scan(layer, x, (stacked, None if memory is None else memory.kv))
        return x, Memory(own, positions)

    def _final(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return norm(self.spec, values(self.ends), "final_norm", x)


def block(
    spec: DecoderSpec,
    w: Layer,
    x: Float[Array, "B T D"],
    positions: Int[Array, "#B T"],
    mask: Bool[Array, "#B 1 T S"],
    past: KV | None = None,
) -> tuple[Float[Array, "B T D"], KV]:
    """One layer. Returns its output and the keys and values of ``x``'s own positions."""
    h = norm(spec, w, "attention_norm", x)
    q, k, v = (linear(w, name, h) for name in ("q", "k", "v"))
    if spec.qk_norm:
        q, k = (
            rms_norm(y, w[f"{name}_norm"], spec.norm_eps, spec.norm_offset)
            for name, y in (("q", q), ("k", k))
        )
    if spec.ropes:
        q, k = (rotate(y, positions, w["frequency"]) for y in (q, k))
    own = seen = KV(k, v)
    if past is not None:
        seen = KV(*(jnp.concatenate(pair, axis=1) for pair in zip(past, own)))
    scale = spec.attention_scale or spec.head_dim**-0.5
    h = linear(w, "out", attend(q, seen, mask, scale, spec.attention_cap), axes=2)
    x = x + (norm(spec, w, "attention_post_norm", h) if spec.post_norms else h)

    h = feed_forward(w, norm(spec, w, "mlp_norm", x), spec.activation)
    return x + (norm(spec, w, "mlp_post_norm", h) if spec.post_norms else h), own


def norm(spec: DecoderSpec, w: Layer, name: str, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    if spec.norm == "layer":
        return layer_norm(x, w[name], w[f"{name}_bias"], spec.norm_eps)
    return rms_norm(x, w[name], spec.norm_eps, spec.norm_offset)
