"""From the config of each family of decoders to the spec of its model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from mpt.errors import UserError
from mpt.loading.families.values import activation, tied
from mpt.loading.fields import declared
from mpt.models.attention import NOWHERE
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import ClampedSwiGLU
from mpt.models.rope import STILL, Rope


def llama(config: PreTrainedConfig, tensors: Collection[str], rotated: float = 1.0) -> DecoderSpec:
    """Llama 2 and 3 and SmolLM2; the families below build on it.

    Args:
        rotated: the fraction of each head that rotates.
    """
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
        ropes=_ropes(config, rotated),
        norm_eps=config.rms_norm_eps,
        tied=tied(config, tensors),
        windows=_windows(config),
        activation=activation(config.hidden_act if "hidden_act" in fields else config.hidden_activation),
        biases=attention + mlp,
    )


def qwen2(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    return replace(llama(config, tensors), biases=("q", "k", "v"))


def qwen3(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    return replace(llama(config, tensors), qk_norm="head")


def qwen3_5(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    """Qwen 3.5: layers with the gated delta rule among those with attention."""
    names = {"linear_attention": "delta", "full_attention": "attention"}
    if other := set(config.layer_types) - names.keys():
        raise UserError(f"layer_types: '{min(other)}' is not supported")
    keys, heads = config.linear_num_key_heads, config.linear_num_value_heads
    if config.linear_key_head_dim != config.linear_value_head_dim:
        raise UserError("linear_value_head_dim: values of another width than keys are not supported")
    if heads % keys:
        raise UserError(f"linear_num_value_heads is {heads}, no multiple of linear_num_key_heads, {keys}")
    spec = llama(config, tensors, rotated=config.rope_parameters.get("partial_rotary_factor", 1.0))
    spec = replace(spec, norm_offset=1.0)
    gates = ("out_gate",) if "q" in spec.biases else ()
    attention = replace(spec, qk_norm="head", out_gate=True, biases=spec.biases + gates)
    delta = replace(
        spec,
        heads=heads,
        kv_heads=keys,
        head_dim=config.linear_key_head_dim,
        taps=config.linear_conv_kernel_dim,
        ropes=(),
        biases=(),
    )
    kinds = [names[kind] for kind in config.layer_types]
    return spec.of_several_kinds(kinds, {"attention": attention, "delta": delta})


def qwen3_moe(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    if config.mlp_only_layers or config.decoder_sparse_step != 1:
        name = "mlp_only_layers" if config.mlp_only_layers else "decoder_sparse_step"
        raise UserError(f"{name}: layers without experts beside those with them are not supported")
    return replace(
        qwen3(config, tensors),
        d_ff=config.moe_intermediate_size,
        experts=config.num_experts,
        experts_per_token=config.num_experts_per_tok,
        experts_weighed=config.norm_topk_prob,
    )


def gpt_oss(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    spec = llama(config, tensors)
    return replace(
        spec,
        activation=ClampedSwiGLU(config.swiglu_alpha, config.swiglu_limit),
        experts=config.num_local_experts,
        experts_per_token=config.num_experts_per_tok,
        experts_weighed=True,  # its softmax is over the chosen experts
        biases=(*spec.biases, "router", "gate", "up", "down"),
        sinks=True,
    )


def smollm3(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    spec = llama(config, tensors)
    ropes = [rope if config.no_rope_layers[i] else STILL for i, rope in enumerate(spec.ropes)]
    return replace(spec, ropes=tuple(ropes))


def granite(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    return replace(
        llama(config, tensors),
        input_scale=config.embedding_multiplier,
        residual_scale=config.residual_multiplier,
        attention_scale=config.attention_multiplier,
        logit_scale=1 / config.logits_scaling,
    )


def olmo2(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    """OLMo 2 and 3; the third generation's windows and ropes are read with Llama's."""
    return replace(llama(config, tensors), qk_norm="heads", pre_norms=False, post_norms=True)


def ministral3(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    parameters = config.rope_parameters
    growth = parameters["llama_4_scaling_beta"], parameters["original_max_position_embeddings"]
    return replace(llama(config, tensors), query_growth=growth)


def phi3(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    """Phi 3 and 4, whose rotation is of a part of each head."""
    return llama(config, tensors, rotated=config.rope_parameters["partial_rotary_factor"])


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
    return replace(gemma2(config, tensors), qk_norm="head", attention_cap=None)


def gemma4(config: PreTrainedConfig, tensors: Collection[str]) -> DecoderSpec:
    """Gemma 4: layers with windows and those that see all have other heads; some read others' keys."""
    if config.pad_token_id is None and config.hidden_size_per_layer_input:
        raise UserError("pad_token_id: there is none, and a prompt has its per-layer embeddings; set it")
    if config.num_kv_shared_layers >= config.num_hidden_layers:
        raise UserError("num_kv_shared_layers: no layer is left that has keys and values of its own")
    kinds = [
        kind.removesuffix("_attention") + ("_shared" if mode == "reuse" else "")
        for kind, mode in zip(config.layer_types, config.kv_sharing_modes)
    ]
    wide = 2 if config.use_double_wide_mlp else 1
    configs: Any = config.per_layer_config

    def of_type(kind: str) -> DecoderSpec:
        return replace(
            llama(configs[f"{kind}_attention"], tensors),
            qk_norm="head",
            value_norm=True,
            post_norms=True,
            embed_scale=config.hidden_size**0.5,
            attention_scale=1.0,
            logit_cap=config.final_logit_softcapping,
            per_layer=config.hidden_size_per_layer_input or 0,
            per_layer_vocab=config.vocab_size_per_layer_input,
            soft_token=config.pad_token_id or 0,
            layer_scale=True,
        )

    specs = {"sliding": of_type("sliding")} if "sliding_attention" in config.layer_types else {}
    full = replace(of_type("full"), windows=())
    specs["full"] = replace(full, keys_as_values=config.attention_k_eq_v)
    for kind, spec in list(specs.items()):
        specs[f"{kind}_shared"] = replace(spec, shares=kind, keys_as_values=False, d_ff=wide * spec.d_ff)
    if config.enable_moe_block:
        experts = {"experts": config.num_experts, "experts_per_token": config.top_k_experts}
        d_ff, experts["experts_weighed"] = config.moe_intermediate_size, True
        specs = {
            kind: replace(spec, d_ff=d_ff, dense_d_ff=spec.d_ff, **experts) for kind, spec in specs.items()
        }
    return full.of_several_kinds(kinds, specs)


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
        tied=tied(config, tensors),
        positions=config.n_positions,
        norm="layer",
        activation=activation(config.activation_function),
        gated=False,
        biases=("q", "k", "v", "out", "up", "down"),
    )


def _ropes(config: PreTrainedConfig, rotated: float) -> tuple[Rope, ...]:
    """The rotary embedding of each layer: the same for all layers, or one per type of layer."""
    parameters: dict[str, Any] = config.rope_parameters
    longest = config.max_position_embeddings
    if "rope_theta" in parameters:
        return (Rope.from_hf(parameters, longest, rotated),) * config.num_hidden_layers
    # As in transformers, which looks for this one beside the types of layers.
    whole = {"truncate": parameters.get("truncate", True)}
    return tuple(Rope.from_hf(parameters[kind] | whole, longest, rotated) for kind in config.layer_types)


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
