"""The dimensions and choices in which decoders differ, and the weights that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
        ahead: how many later positions each layer attends to, in an encoder; empty where it sees none.
        crosses: width of the encoder's output that each layer attends to after its self-attention; 0: there
            is none.
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
        dense_d_ff: units of a feed-forward that every token has in addition to its experts; 0: there is none.
        biases: names of the linear maps that have a bias.
        embed_scale: factor on token embeddings, but not on prompts.
        input_scale: factor on all that enters the first layer, prompts and tokens alike.
        residual_scale: factor on what a layer's attention and feed-forward add.
        attention_scale: factor on the attention scores.
        query_growth: a and c where queries at position p are multiplied by 1 + a log(1 + ⌊p / c⌋) (Llama 4).
        attention_cap: tanh bound of the attention scores.
        sinks: each head has a score for attending to nothing.
        out_gate: what attention gives is multiplied by a gate of its input.
        value_norm: values are normalised, head by head, without a scale.
        keys_as_values: values are what keys are before their norm and rotation.
        shares: the kind of layers whose last one's keys and values are read; empty: a layer has its own.
        taps: positions that the convolution of the gated delta rule reads, which takes attention's place
            then; queries and keys have ``kv_heads``, values ``heads``. 0: there is attention.
        per_layer: width of the inputs that each layer has of its own of every token (Gemma 4); 0: there are
            none.
        per_layer_vocab: rows of their table.
        soft_token: the token whose rows prompts have there.
        layer_scale: each layer's output is multiplied by a number.
        logit_scale: factor on the logits.
        logit_cap: tanh bound of the logits.
        tied: the embedding table is the output head.
        kinds: the kind of each layer, where layers are of several; empty where all are alike.
        of_kinds: each kind's spec, of its layers alone; see ``of_several_kinds``.
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
    ahead: tuple[int, ...] = ()
    crosses: int = 0
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
    dense_d_ff: int = 0
    biases: tuple[str, ...] = ()
    embed_scale: float = 1.0
    input_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    query_growth: tuple[float, int] | None = None
    attention_cap: float | None = None
    sinks: bool = False
    out_gate: bool = False
    value_norm: bool = False
    keys_as_values: bool = False
    shares: str = ""
    taps: int = 0
    per_layer: int = 0
    per_layer_vocab: int = 0
    soft_token: int = 0
    layer_scale: bool = False
    logit_scale: float = 1.0
    logit_cap: float | None = None
    kinds: tuple[str, ...] = ()
    of_kinds: tuple[tuple[str, DecoderSpec], ...] = ()

    def __post_init__(self):
        for rope in dict.fromkeys(self.ropes):
            rope.frequencies(self.head_dim)  # now, not when the model runs, it is said what cannot be
        if self.experts_per_token > self.experts:
            raise UserError(f"num_experts_per_tok is {self.experts_per_token}, of {self.experts} experts")

    def of_several_kinds(self, kinds: Sequence[str], specs: Mapping[str, DecoderSpec]) -> DecoderSpec:
        """This spec with layers of several kinds.

        Args:
            kinds: the kind of each layer.
            specs: the spec that each kind would have if all layers were of it.
        """
        found = []
        for kind in dict.fromkeys(kinds):
            spec, own = specs[kind], [i for i, other in enumerate(kinds) if other == kind]
            ropes, windows = (tuple(part[i] for i in own if part) for part in (spec.ropes, spec.windows))
            found.append((kind, replace(spec, layers=len(own), ropes=ropes, windows=windows)))
        return replace(self, kinds=tuple(kinds), of_kinds=tuple(found))

    @property
    def stacks(self) -> dict[str, DecoderSpec]:
        """The stacks of layers, one of each kind, by the names of the backbone's attributes."""
        return dict(self.of_kinds) or {"layers": self}

    @property
    def layer_kinds(self) -> tuple[str, ...]:
        """The stack of each layer."""
        return self.kinds or ("layers",) * self.layers

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
            "encoded": self.crosses,
            "position": self.positions,
            "expert": self.experts,
            "dense_mlp": self.dense_d_ff,
            "tap": self.taps,
            "per_layer": self.per_layer,
            "per_layer_vocab": self.per_layer_vocab,
            "per_layer_all": self.layers * self.per_layer,
            "per_layer_row": self.layers * self.per_layer,
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
        if self.per_layer:
            parts["per_layer_table"] = "per_layer_vocab per_layer_row"
            parts["per_layer_projection"] = "embed per_layer_all"
            parts["per_layer_norm"] = "per_layer"
        return parts

    def layer_parts(self) -> dict[str, str]:
        """The weights of the layers, stacked along their first axis, with their logical axes."""
        parts = self._delta_parts() if self.taps else self._attention_parts()
        if self.crosses:
            parts |= self._cross_parts()
        mlp = {"up": "embed mlp", "down": "mlp embed"} | ({"gate": "embed mlp"} if self.gated else {})
        if self.experts:
            parts["router"] = "embed expert"
            mlp |= self._biases(mlp)
            mlp = {f"expert_{name}": f"expert {axes}" for name, axes in mlp.items()}
        parts |= mlp
        if self.dense_d_ff:
            parts |= {"up": "embed dense_mlp", "gate": "embed dense_mlp", "down": "dense_mlp embed"}
            parts |= {"router_norm": "embed", "router_factor": "expert"}
            parts |= dict.fromkeys(("dense_post_norm", "routed_norm", "routed_post_norm"), "embed")
        if self.per_layer:
            parts |= {"per_layer_gate": "embed per_layer", "per_layer_out": "per_layer embed"}
            parts["per_layer_post_norm"] = "embed"
        if self.layer_scale:
            parts["layer_scale"] = ""
        if self.pre_norms:
            parts |= {"attention_norm": "embed", "mlp_norm": "embed"}
        if self.post_norms:
            parts |= {"attention_post_norm": "embed", "mlp_post_norm": "embed"}
        parts |= self._biases(parts)
        if self.norm == "layer":
            parts |= {"attention_norm_bias": "embed", "mlp_norm_bias": "embed"}
        return {name: f"layer {axes}".strip() for name, axes in parts.items()}

    def _attention_parts(self) -> dict[str, str]:
        parts = {
            "q": "embed heads head_dim",
            "k": "embed kv_heads head_dim",
            "v": "embed kv_heads head_dim",
            "out": "heads head_dim embed",
        }
        if self.out_gate:
            parts["out_gate"] = "embed heads head_dim"
        if self.sinks:
            parts["sinks"] = "heads"
        if self.qk_norm == "head":
            parts |= {"q_norm": "head_dim", "k_norm": "head_dim"}
        if self.qk_norm == "heads":
            parts |= {"q_norm": "heads head_dim", "k_norm": "kv_heads head_dim"}
        absent = {"k", "v", "k_norm"} if self.shares else {"v"} if self.keys_as_values else set()
        return {name: axes for name, axes in parts.items() if name not in absent}

    def _cross_parts(self) -> dict[str, str]:
        parts = {
            "cross_norm": "embed",
            "cross_q": "embed heads head_dim",
            "cross_k": "encoded kv_heads head_dim",
            "cross_v": "encoded kv_heads head_dim",
            "cross_out": "heads head_dim embed",
        }
        return parts | ({"cross_post_norm": "embed"} if self.post_norms else {})

    def _delta_parts(self) -> dict[str, str]:
        return {
            "q": "embed kv_heads head_dim",
            "k": "embed kv_heads head_dim",
            "v": "embed heads head_dim",
            "conv_q": "kv_heads head_dim tap",
            "conv_k": "kv_heads head_dim tap",
            "conv_v": "heads head_dim tap",
            "beta": "embed heads",
            "decay": "embed heads",
            "decay_offset": "heads",
            "decay_rate_log": "heads",
            "out_norm": "head_dim",
            "out_gate": "embed heads head_dim",
            "out": "heads head_dim embed",
        }

    def _biases(self, matrices: Mapping[str, str]) -> dict[str, str]:
        """The biases of those matrices that have one, with their logical axes."""
        outputs = {name: axes.split(" ", 1)[1] for name, axes in matrices.items() if name in self.biases}
        outputs |= {name: "embed" for name in ("out", "cross_out") if name in outputs}
        return {f"{name}_bias": axes for name, axes in outputs.items()}

    def layer_constants(self) -> dict[str, Array]:
        """What differs between layers without being a weight: how far they see, and the index of the rope."""
        distinct = list(dict.fromkeys(self.ropes))
        return {
            "window": jnp.array(self.windows or (NOWHERE,) * self.layers),
            "ahead": jnp.array(self.ahead or (0,) * self.layers),
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
