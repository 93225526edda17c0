"""The dimensions and choices in which decoders differ, and the weights that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mpt.errors import UserError
from mpt.models.attention import NOWHERE
from mpt.models.layers import ClampedSwiGLU
from mpt.models.rope import Angles, LongRope, Rope


@dataclass(frozen=True)
class DecoderSpec:
    """The dimensions and choices in which decoders differ.

    Attributes:
        vocab: tokens; with the next six, the sizes of the package's legend.
        ropes: each layer's rotary embedding; empty where positions are learned.
        windows: how many positions each layer attends to; empty where all attend to every earlier one.
        positions: rows of the learned position table; 0 where there are rotary embeddings.
        norm: root-mean-square or layer norm.
        norm_offset: added to the norms' stored scales.
        qk_norm: queries and keys are normalised, head by head or all heads together.
        pre_norms: the inputs of attention and feed-forward are normalised.
        post_norms: their outputs are.
        gated: the feed-forward's activation multiplies a second projection.
        experts: feed-forwards of each layer, among which a router chooses for each token; 0: there is one.
        experts_per_token: how many it chooses.
        experts_weighed: the weights of those chosen are divided by their sum.
        biases: names of the linear maps that have a bias.
        embed_scale: factor on token embeddings, but not on prompts.
        input_scale: factor on all that enters the first layer, prompts and tokens alike.
        residual_scale: factor on what a layer's attention and feed-forward add.
        attention_scale: factor on the attention scores.
        query_growth: a and c where queries at position p are multiplied by 1 + a log(1 + ⌊p / c⌋) (Llama 4).
        attention_cap: tanh bound of the attention scores.
        sinks: each head has a score for attending to nothing.
        logit_scale: factor on the logits.
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
    qk_norm: Literal["head", "heads"] | None = None
    pre_norms: bool = True
    post_norms: bool = False
    activation: str | ClampedSwiGLU = "silu"
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    experts_weighed: bool = False
    biases: tuple[str, ...] = ()
    embed_scale: float = 1.0
    input_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    query_growth: tuple[float, int] | None = None
    attention_cap: float | None = None
    sinks: bool = False
    logit_scale: float = 1.0
    logit_cap: float | None = None

    def __post_init__(self):
        for rope in dict.fromkeys(self.ropes):
            rope.frequencies(self.head_dim)  # now, not when the model runs, it is said what cannot be
        if self.experts_per_token > self.experts:
            raise UserError(f"num_experts_per_tok is {self.experts_per_token}, of {self.experts} experts")

    @property
    def longest(self) -> int:
        """The number of positions beyond which no text may go; 0 where there is no such bound."""
        within = [rope.scaling.context for rope in self.ropes if isinstance(rope.scaling, LongRope)]
        return min(within, default=self.positions)

    def scoring(self, w: Mapping[str, Array]) -> tuple[float, float | None, Array | None]:
        """Scale, cap and sinks of the attention scores in the layer of weights ``w``."""
        return self.attention_scale or self.head_dim**-0.5, self.attention_cap, w.get("sinks")

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
            "expert": self.experts,
        }

    def end_parts(self) -> dict[str, str]:
        """The weights outside the layers, with their logical axes."""
        parts = {"embedding": "vocab embed", "final_norm": "embed"}
        if self.positions:
            parts["position_table"] = "position embed"
        if self.norm == "layer":
            parts["final_norm_bias"] = "embed"
        if not self.tied:
            parts["head"] = "vocab embed"
        return parts

    def layer_parts(self) -> dict[str, str]:
        """The weights of the layers, stacked along their first axis, with their logical axes."""
        parts = {
            "q": "embed heads head_dim",
            "k": "embed kv_heads head_dim",
            "v": "embed kv_heads head_dim",
            "out": "heads head_dim embed",
        }
        if self.sinks:
            parts["sinks"] = "heads"
        mlp = {"up": "embed mlp", "down": "mlp embed"} | ({"gate": "embed mlp"} if self.gated else {})
        if self.experts:
            parts["router"] = "embed expert"
            mlp |= self._biases(mlp)
            mlp = {f"expert_{name}": f"expert {axes}" for name, axes in mlp.items()}
        parts |= mlp
        if self.qk_norm == "head":
            parts |= {"q_norm": "head_dim", "k_norm": "head_dim"}
        if self.qk_norm == "heads":
            parts |= {"q_norm": "heads head_dim", "k_norm": "kv_heads head_dim"}
        if self.pre_norms:
            parts |= {"attention_norm": "embed", "mlp_norm": "embed"}
        if self.post_norms:
            parts |= {"attention_post_norm": "embed", "mlp_post_norm": "embed"}
        parts |= self._biases(parts)
        if self.norm == "layer":
            parts |= {"attention_norm_bias": "embed", "mlp_norm_bias": "embed"}
        return {name: f"layer {axes}" for name, axes in parts.items()}

    def _biases(self, matrices: Mapping[str, str]) -> dict[str, str]:
        """The biases of those matrices that have one, with their logical axes."""
        outputs = {name: axes.split(" ", 1)[1] for name, axes in matrices.items() if name in self.biases}
        outputs |= {"out": "embed"} if "out" in outputs else {}
        return {f"{name}_bias": axes for name, axes in outputs.items()}

    def layer_constants(self) -> dict[str, Array]:
        """What differs between layers without being a weight: the window, and the index of the rope."""
        distinct = list(dict.fromkeys(self.ropes))
        return {
            "window": jnp.array(self.windows or (NOWHERE,) * self.layers),
            "rope": jnp.array([distinct.index(rope) for rope in self.ropes] or (0,) * self.layers),
        }

    def angles(self, positions: Int[Array, "*rows"]) -> Angles | None:
        """The rotation angles of each distinct rope, stacked; computed once for all layers."""
        distinct = dict.fromkeys(self.ropes)
        if not distinct:
            return None
        frequencies = np.stack([rope.frequencies(self.head_dim) for rope in distinct])
        amplitudes = np.array([rope.amplitude for rope in distinct])
        of_ropes = (jnp.array(numbers, jnp.float32) for numbers in (frequencies, amplitudes))
        angles = jax.vmap(Angles.at, (None, 0, 0))(positions, *of_ropes)
        if self.query_growth is None:
            return angles
        rate, context = self.query_growth
        scale = 1 + rate * jnp.log1p((positions // context).astype(jnp.float32))
        return angles._replace(query_scale=jnp.broadcast_to(scale, (len(distinct), *scale.shape)))
