"""The families of models that mpt runs: how to read their configs and their tensors' names.

To add a family, write a function that turns its config into a spec, and a table of its tensors' names if it
differs from those below; then add both to ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedConfig

from mpt.errors import UserError, one_line
from mpt.loading.fields import declared
from mpt.loading.weights import Table, Tensors
from mpt.models.attention import NOWHERE
from mpt.models.decoder import Decoder, DecoderSpec
from mpt.models.layers import ACTIVATIONS
from mpt.models.rope import Rope
from mpt.models.t5 import T5, T5Spec

HEAD = "lm_head.weight"
COPIES = (HEAD, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # where the embedding may recur

LLAMA_TABLE: Table = {
    "embed_tokens.weight": ("ends.embedding", "v d -> v d"),
    "norm.weight": ("ends.final_norm", "d -> d"),
    "lm_head.weight": ("ends.head", "v d -> v d"),
    "layers.{}.input_layernorm.weight": ("layers.attention_norm", "d -> d"),
    "layers.{}.self_attn.q_proj.weight": ("layers.q", "(n h) d -> d n h"),
    "layers.{}.self_attn.k_proj.weight": ("layers.k", "(n h) d -> d n h"),
    "layers.{}.self_attn.v_proj.weight": ("layers.v", "(n h) d -> d n h"),
    "layers.{}.self_attn.o_proj.weight": ("layers.out", "d (n h) -> n h d"),
    "layers.{}.self_attn.q_proj.bias": ("layers.q_bias", "(n h) -> n h"),
    "layers.{}.self_attn.k_proj.bias": ("layers.k_bias", "(n h) -> n h"),
    "layers.{}.self_attn.v_proj.bias": ("layers.v_bias", "(n h) -> n h"),
    "layers.{}.self_attn.o_proj.bias": ("layers.out_bias", "d -> d"),
    "layers.{}.self_attn.q_norm.weight": ("layers.q_norm", "h -> h"),
    "layers.{}.self_attn.k_norm.weight": ("layers.k_norm", "h -> h"),
    "layers.{}.self_attn.rotary_emb.inv_freq": None,  # old checkpoints; the config says the same
    "layers.{}.post_attention_layernorm.weight": ("layers.mlp_norm", "d -> d"),
    "layers.{}.mlp.gate_proj.weight": ("layers.gate", "f d -> d f"),
    "layers.{}.mlp.up_proj.weight": ("layers.up", "f d -> d f"),
    "layers.{}.mlp.down_proj.weight": ("layers.down", "d f -> f d"),
    "layers.{}.mlp.gate_proj.bias": ("layers.gate_bias", "f -> f"),
    "layers.{}.mlp.up_proj.bias": ("layers.up_bias", "f -> f"),
    "layers.{}.mlp.down_proj.bias": ("layers.down_bias", "d -> d"),
}

GEMMA_TABLE: Table = {
    **LLAMA_TABLE,
    "layers.{}.post_attention_layernorm.weight": ("layers.attention_post_norm", "d -> d"),
    "layers.{}.pre_feedforward_layernorm.weight": ("layers.mlp_norm", "d -> d"),
    "layers.{}.post_feedforward_layernorm.weight": ("layers.mlp_post_norm", "d -> d"),
}

GPT2_TABLE: Table = {
    "wte.weight": ("ends.embedding", "v d -> v d"),
    "wpe.weight": ("ends.position_table", "t d -> t d"),
    "ln_f.weight": ("ends.final_norm", "d -> d"),
    "ln_f.bias": ("ends.final_norm_bias", "d -> d"),
    "lm_head.weight": ("ends.head", "v d -> v d"),
    "h.{}.ln_1.weight": ("layers.attention_norm", "d -> d"),
    "h.{}.ln_1.bias": ("layers.attention_norm_bias", "d -> d"),
    "h.{}.attn.c_attn.weight": ("layers.q layers.k layers.v", "d (x n h) -> x d n h"),
    "h.{}.attn.c_attn.bias": ("layers.q_bias layers.k_bias layers.v_bias", "(x n h) -> x n h"),
    "h.{}.attn.c_proj.weight": ("layers.out", "(n h) d -> n h d"),
    "h.{}.attn.c_proj.bias": ("layers.out_bias", "d -> d"),
    "h.{}.attn.bias": None,  # the causal mask
    "h.{}.attn.masked_bias": None,
    "h.{}.ln_2.weight": ("layers.mlp_norm", "d -> d"),
    "h.{}.ln_2.bias": ("layers.mlp_norm_bias", "d -> d"),
    "h.{}.mlp.c_fc.weight": ("layers.up", "d f -> d f"),
    "h.{}.mlp.c_fc.bias": ("layers.up_bias", "f -> f"),
    "h.{}.mlp.c_proj.weight": ("layers.down", "f d -> f d"),
    "h.{}.mlp.c_proj.bias": ("layers.down_bias", "d -> d"),
}


def _t5_stack(stack: str, feed_forward: int) -> Table:
    attention = f"{stack}.block.{{}}.layer.0"
    mlp = f"{stack}.block.{{}}.layer.{feed_forward}"
    return {
        f"{stack}.final_layer_norm.weight": (f"ends.{stack}_norm", "d -> d"),
        f"{attention}.layer_norm.weight": (f"{stack}.norm", "d -> d"),
        f"{attention}.SelfAttention.q.weight": (f"{stack}.q", "(n h) d -> d n h"),
        f"{attention}.SelfAttention.k.weight": (f"{stack}.k", "(n h) d -> d n h"),
        f"{attention}.SelfAttention.v.weight": (f"{stack}.v", "(n h) d -> d n h"),
        f"{attention}.SelfAttention.o.weight": (f"{stack}.out", "d (n h) -> n h d"),
        f"{mlp}.layer_norm.weight": (f"{stack}.mlp_norm", "d -> d"),
        f"{mlp}.DenseReluDense.wi.weight": (f"{stack}.up", "f d -> d f"),
        f"{mlp}.DenseReluDense.wi_0.weight": (f"{stack}.gate", "f d -> d f"),
        f"{mlp}.DenseReluDense.wi_1.weight": (f"{stack}.up", "f d -> d f"),
        f"{mlp}.DenseReluDense.wo.weight": (f"{stack}.down", "d f -> f d"),
    }


_RELATIVE = "block.{}.layer.0.SelfAttention.relative_attention_bias.weight"

UMT5_TABLE: Table = {
    "shared.weight": ("ends.embedding", "v d -> v d"),
    "lm_head.weight": ("ends.head", "v d -> v d"),
    **_t5_stack("encoder", feed_forward=1),
    **_t5_stack("decoder", feed_forward=2),
    f"encoder.{_RELATIVE}": ("encoder.bias", "b n -> b n"),
    f"decoder.{_RELATIVE}": ("decoder.bias", "b n -> b n"),
    "decoder.block.{}.layer.1.layer_norm.weight": ("decoder.cross_norm", "d -> d"),
    "decoder.block.{}.layer.1.EncDecAttention.q.weight": ("decoder.cross_q", "(n h) d -> d n h"),
    "decoder.block.{}.layer.1.EncDecAttention.k.weight": ("decoder.cross_k", "(n h) d -> d n h"),
    "decoder.block.{}.layer.1.EncDecAttention.v.weight": ("decoder.cross_v", "(n h) d -> d n h"),
    "decoder.block.{}.layer.1.EncDecAttention.o.weight": ("decoder.cross_out", "d (n h) -> n h d"),
}

T5_TABLE: Table = {
    **{name: to for name, to in UMT5_TABLE.items() if _RELATIVE not in name},
    f"encoder.{_RELATIVE.format(0)}": ("ends.encoder_bias", "b n -> b n"),
    f"decoder.{_RELATIVE.format(0)}": ("ends.decoder_bias", "b n -> b n"),
    # In the original checkpoints, though the model has never used it.
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": None,
}


def llama(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    """Llama 2 and 3 and SmolLM2; the families below build on it."""
    # Not what a config file holds beyond its class's fields: transformers does not read it, either.
    fields = declared(config)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = ("q", "k", "v", "out") if "attention_bias" in fields and config.attention_bias else ()
    mlp = ("gate", "up", "down") if "mlp_bias" in fields and config.mlp_bias else ()
    return DecoderSpec(
        vocab=config.vocab_size,
        d_model=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        d_ff=config.intermediate_size,
        ropes=_ropes(config),
        norm_eps=config.rms_norm_eps,
        tied=_tied(config, tensors),
        windows=_windows(config),
        activation=_activation(config.hidden_act if "hidden_act" in fields else config.hidden_activation),
        biases=attention + mlp,
    )


def qwen2(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    return replace(llama(config, tensors), biases=("q", "k", "v"))


def qwen3(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    return replace(llama(config, tensors), qk_norm=True)


def gemma2(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    return replace(
        llama(config, tensors),
        norm_offset=1.0,
        post_norms=True,
        embed_scale=config.hidden_size**0.5,
        attention_scale=config.query_pre_attn_scalar**-0.5,
        attention_cap=config.attn_logit_softcapping,
        logit_cap=config.final_logit_softcapping,
    )


def gemma3(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    # The config still has the soft caps, but the third generation's attention does not use them.
    return replace(gemma2(config, tensors), qk_norm=True, attention_cap=None)


def gpt2(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    return DecoderSpec(
        vocab=config.vocab_size,
        d_model=config.n_embd,
        layers=config.n_layer,
        heads=config.n_head,
        kv_heads=config.n_head,
        head_dim=config.n_embd // config.n_head,
        d_ff=config.n_inner or 4 * config.n_embd,
        ropes=(),
        norm_eps=config.layer_norm_epsilon,
        tied=_tied(config, tensors),
        positions=config.n_positions,
        norm="layer",
        activation=_activation(config.activation_function),
        gated=False,
        biases=("q", "k", "v", "out", "up", "down"),
    )


def t5(config: PreTrainedConfig, tensors: Collection[str]) -> T5Spec:
    """T5 1.0, 1.1, LM-adapted, Flan and ByT5."""
    tied = _tied(config, tensors)
    scaled = config.to_dict().get("scale_decoder_outputs", tied)
    return T5Spec(
        vocab=config.vocab_size,
        d_model=config.d_model,
        layers=config.num_layers,
        decoder_layers=config.num_decoder_layers,
        heads=config.num_heads,
        head_dim=config.d_kv,
        d_ff=config.d_ff,
        activation=_activation(config.dense_act_fn),
        gated=config.is_gated_act,
        buckets=config.relative_attention_num_buckets,
        max_distance=config.relative_attention_max_distance,
        bias_everywhere=False,
        norm_eps=config.layer_norm_epsilon,
        logit_scale=config.d_model**-0.5 if scaled else 1.0,
        tied=tied,
        start_token=config.to_dict().get("decoder_start_token_id") or 0,
    )


def mt5(config: PreTrainedConfig, tensors: Collection[str]) -> T5Spec:
    return replace(t5(config, tensors), logit_scale=1.0)


def umt5(config: PreTrainedConfig, tensors: Collection[str]) -> T5Spec:
    return replace(t5(config, tensors), bias_everywhere=True)


def _tied(config: PreTrainedConfig, tensors: Collection[str]) -> bool:
    """Whether the embedding is the head: a head of its own in the file counts more than the config's flag."""
    return config.tie_word_embeddings and HEAD not in tensors


def _ropes(config: PreTrainedConfig) -> tuple[Rope, ...]:
    """The rotary embedding of each layer: the same for all layers, or one per type of layer."""
    parameters: dict[str, Any] = config.rope_parameters
    if "rope_theta" in parameters:
        return (Rope.from_hf(parameters),) * config.num_hidden_layers
    return tuple(Rope.from_hf(parameters[kind]) for kind in config.layer_types)


def _windows(config: PreTrainedConfig) -> tuple[int, ...]:
    """The attention window of each layer, in positions; empty if every layer sees all positions."""
    fields, layers = declared(config), config.num_hidden_layers
    if "sliding_window" not in fields:
        return ()
    kinds = config.layer_types if "layer_types" in fields else ["sliding_attention"] * layers
    if other := set(kinds) - {"sliding_attention", "full_attention"}:
        raise UserError(f"layer_types: '{min(other)}' is not supported")
    window = config.sliding_window
    if window is None and "layer_types" in fields and "sliding_attention" in kinds:
        raise UserError("layer_types: a layer has sliding_attention, but there is no sliding_window")
    if window is None:
        return ()
    return tuple(window if kind == "sliding_attention" else NOWHERE for kind in kinds)


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise UserError(f"activation '{name}' is not supported; {', '.join(ACTIVATIONS)} are")
    return name


@dataclass(frozen=True)
class Family:
    """How to read the models of one ``model_type``.

    Attributes:
        module: the class of the backbone.
        spec: a function from a config and the names of the checkpoint's tensors to the backbone's spec; the
            names are those that ``own_names`` gives.
        table: the names of the tensors.
        prefix: a prefix of these names, which checkpoints without a head leave out.
    """

    module: type[Decoder] | type[T5]
    spec: Callable[[PreTrainedConfig, Collection[str]], Any]
    table: Table
    prefix: str = ""

    def spec_of(self, config: PreTrainedConfig, names: Collection[str], where: Path) -> Any:
        """The spec of ``module``.

        Args:
            names: the checkpoint's tensors, without ``copies``.
            where: the file or folder of the model, for the error.

        Raises:
            UserError: the config asks for what mpt does not compute, or fits no model.
        """
        try:
            return self.spec(config, names)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except Exception as error:  # a value that no model has, such as a rope without its base
            raise UserError(f"{where}: the config describes no model ({one_line(error)})") from None

    def table_of(self, names: Collection[str]) -> dict[str, tuple[str, str] | None]:
        """The table for one checkpoint, with the prefix that its names have."""
        prefix = self._prefix_of(names)
        return {name if name == HEAD else prefix + name: to for name, to in self.table.items()}

    def copies(self, config: PreTrainedConfig, tensors: Tensors) -> set[str]:
        """The names under which a checkpoint stores its tied embedding once more; they need not be read.

        Of other values, such a tensor is no copy: a head is then used, as transformers does, and a table of
        the encoder's or decoder's own has no place in the model.
        """
        names = set(tensors)
        embedding = next(name for name, to in self.table.items() if to and to[0] == "ends.embedding")
        embedding = self._prefix_of(names) + embedding
        if not config.tie_word_embeddings or embedding not in names:
            return set()
        return {
            name
            for name in names.intersection(COPIES)
            if tensors.shape(name) == tensors.shape(embedding)
            and np.array_equal(tensors[name], tensors[embedding])
        }

    def _prefix_of(self, names: Collection[str]) -> str:
        return self.prefix if any(name.startswith(self.prefix) for name in names) else ""


FAMILIES = {
    "gemma2": Family(Decoder, gemma2, GEMMA_TABLE, "model."),
    "gemma3_text": Family(Decoder, gemma3, GEMMA_TABLE, "model."),
    "gpt2": Family(Decoder, gpt2, GPT2_TABLE, "transformer."),
    "llama": Family(Decoder, llama, LLAMA_TABLE, "model."),
    "mistral": Family(Decoder, llama, LLAMA_TABLE, "model."),
    "mt5": Family(T5, mt5, T5_TABLE),
    "qwen2": Family(Decoder, qwen2, LLAMA_TABLE, "model."),
    "qwen3": Family(Decoder, qwen3, LLAMA_TABLE, "model."),
    "t5": Family(T5, t5, T5_TABLE),
    "umt5": Family(T5, umt5, UMT5_TABLE),
}
