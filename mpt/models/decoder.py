"""The decoder-only backbone: frozen, pure, and unaware of tasks and losses.

Under a causal mask a prompt's activations do not depend on the text behind it. So each distinct
prompt of a batch runs once, and all its rows attend to its keys and values: the result and the
gradient are those of the prompt repeated in front of every row, at a fraction of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from transformers import PreTrainedConfig

from mpt.data.batches import Batch
from mpt.models.layers import KV, Weight, causal_mask, rms_norm, rotate
from mpt.models.output import Output

Layer = dict[str, Array]

# What the backward pass finds stored; the rest it recomputes. Storing only the matrix products is
# faster than storing everything (less memory traffic) as well as smaller.
REMAT = {
    "elementwise": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "layers": jax.checkpoint_policies.nothing_saveable,
    "nothing": jax.checkpoint_policies.everything_saveable,
}

# Hugging Face name -> our name, and how the tensor is laid out here ("{}" is the layer).
TABLE = {
    "model.embed_tokens.weight": ("embedding", "v d -> v d"),
    "model.norm.weight": ("final_norm", "d -> d"),
    "lm_head.weight": ("head", "v d -> v d"),
    "model.layers.{}.input_layernorm.weight": ("layers.attention_norm", "d -> d"),
    "model.layers.{}.self_attn.q_proj.weight": ("layers.q", "(n h) d -> d n h"),
    "model.layers.{}.self_attn.k_proj.weight": ("layers.k", "(n h) d -> d n h"),
    "model.layers.{}.self_attn.v_proj.weight": ("layers.v", "(n h) d -> d n h"),
    "model.layers.{}.self_attn.o_proj.weight": ("layers.out", "d (n h) -> n h d"),
    "model.layers.{}.post_attention_layernorm.weight": ("layers.mlp_norm", "d -> d"),
    "model.layers.{}.mlp.gate_proj.weight": ("layers.gate", "f d -> d f"),
    "model.layers.{}.mlp.up_proj.weight": ("layers.up", "f d -> d f"),
    "model.layers.{}.mlp.down_proj.weight": ("layers.down", "d f -> f d"),
}


@dataclass(frozen=True)
class DecoderSpec:
    """What sets one decoder apart from another; sizes are those of the package's legend."""

    vocab: int
    d_model: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    d_ff: int
    rope_theta: float
    norm_eps: float
    tied: bool

    @classmethod
    def from_hf(cls, config: PreTrainedConfig) -> DecoderSpec:
        """The spec of a Hugging Face ``LlamaConfig``."""
        return cls(
            vocab=config.vocab_size,
            d_model=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            d_ff=config.intermediate_size,
            rope_theta=config.rope_parameters["rope_theta"],
            norm_eps=config.rms_norm_eps,
            tied=config.tie_word_embeddings,
        )


class Decoder(nnx.Module):
    """A Llama-style decoder with its layers stacked and scanned.

    Args:
        spec: the model's dimensions and choices.
        rngs: source of the random weights that stand until a checkpoint is loaded.
        dtype: type of weights and activations; norms and softmax are float32 whatever it is.
        remat: what the backward pass recomputes, a key of ``REMAT``.
    """

    def __init__(self, spec: DecoderSpec, *, rngs: nnx.Rngs, dtype=jnp.float32, remat: str = "elementwise"):
        def weight(shape, axes, scale=0.02):
            return Weight(scale * jax.random.normal(rngs.params(), shape, dtype), axes=axes)

        def ones(shape, axes):
            return Weight(jnp.ones(shape, dtype), axes=axes)

        s, y = spec, spec.layers
        self.spec, self.remat = spec, remat
        self.embedding = weight((s.vocab, s.d_model), ("vocab", "embed"))
        self.final_norm = ones((s.d_model,), ("embed",))
        if not s.tied:
            self.head = weight((s.vocab, s.d_model), ("vocab", "embed"))
        self.layers = nnx.Dict(
            attention_norm=ones((y, s.d_model), ("layer", "embed")),
            q=weight((y, s.d_model, s.heads, s.head_dim), ("layer", "embed", "heads", "head_dim")),
            k=weight((y, s.d_model, s.kv_heads, s.head_dim), ("layer", "embed", "kv_heads", "head_dim")),
            v=weight((y, s.d_model, s.kv_heads, s.head_dim), ("layer", "embed", "kv_heads", "head_dim")),
            out=weight((y, s.heads, s.head_dim, s.d_model), ("layer", "heads", "head_dim", "embed")),
            mlp_norm=ones((y, s.d_model), ("layer", "embed")),
            gate=weight((y, s.d_model, s.d_ff), ("layer", "embed", "mlp")),
            up=weight((y, s.d_model, s.d_ff), ("layer", "embed", "mlp")),
            down=weight((y, s.d_ff, s.d_model), ("layer", "mlp", "embed")),
        )

    def embed(self, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
        return self.embedding[...][tokens]

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        head = self.embedding if self.spec.tied else self.head
        return jnp.einsum("...d,vd->...v", hidden, head[...]).astype(jnp.float32)

    def __call__(self, batch: Batch, prompts: Float[Array, "J P D"]) -> Output:
        """Reads each row's text behind the row's prompt; logits only at the label positions."""
        spec, past, length = self.spec, prompts.shape[1], batch.tokens.shape[1]
        text = self.embed(batch.tokens)
        prompt_positions = jnp.arange(past)[None]
        text_positions = past + jnp.arange(length)[None]
        prompt_mask, text_mask = causal_mask(past), causal_mask(length, past)

        def layer(carry, w: Layer):
            prompt, text = carry
            prompt, kv = block(spec, w, prompt, prompt_positions, prompt_mask)
            seen = KV(kv.k[batch.prompt_index], kv.v[batch.prompt_index])
            text, _ = block(spec, w, text, text_positions, text_mask, seen)
            return (prompt, text), None

        layer = jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)
        stacked = {name: weight[...] for name, weight in self.layers.items()}
        (_, text), _ = jax.lax.scan(layer, (prompts.astype(text.dtype), text), stacked)
        hidden = rms_norm(text, self.final_norm[...], spec.norm_eps)
        labelled = jnp.take_along_axis(hidden, batch.positions[..., None], axis=1)  # [B, L, D]
        return Output(self.logits(labelled), (hidden,))


def block(
    spec: DecoderSpec,
    w: Layer,
    x: Float[Array, "B T D"],
    positions: Int[Array, "#B T"],
    mask: Bool[Array, "#B 1 T S"],
    past: KV | None = None,
) -> tuple[Float[Array, "B T D"], KV]:
    """One layer. Returns its output and the keys and values of ``x``'s own positions."""
    h = rms_norm(x, w["attention_norm"], spec.norm_eps)
    q = rotate(jnp.einsum("btd,dnh->btnh", h, w["q"]), positions, spec.rope_theta)
    k = rotate(jnp.einsum("btd,dkh->btkh", h, w["k"]), positions, spec.rope_theta)
    own = seen = KV(k, jnp.einsum("btd,dkh->btkh", h, w["v"]))
    if past is not None:
        seen = KV(*(jnp.concatenate(pair, axis=1) for pair in zip(past, own)))
    attended = jax.nn.dot_product_attention(q, seen.k, seen.v, mask=mask)
    x = x + jnp.einsum("btnh,nhd->btd", attended, w["out"])
    h = rms_norm(x, w["mlp_norm"], spec.norm_eps)
    gated = jax.nn.silu(h @ w["gate"]) * (h @ w["up"])
    return x + gated @ w["down"], own
