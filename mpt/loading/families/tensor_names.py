"""The names that checkpoints give to their tensors, and the places of these in the model."""

from __future__ import annotations

from mpt.loading.weights import Table

HEAD = "lm_head.weight"
HEADS = frozenset({HEAD, "lm_head.out_proj.weight"})

# Where a tensor may recur under another name, and the name that it has in the table.
COPIES = {HEAD: "ends.embedding"}
T5_COPIES = {
    **COPIES,
    "encoder.embed_tokens.weight": "ends.embedding",
    "decoder.embed_tokens.weight": "ends.embedding",
}
T5GEMMA_COPIES = {"lm_head.out_proj.weight": "ends.decoder_embedding"}
T5GEMMA2_COPIES = {
    "lm_head.out_proj.weight": "ends.embedding",
    "model.decoder.embed_tokens.weight": "ends.embedding",
    "model.decoder.embed_tokens.eoi_embedding": "ends.image_end",
}

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

GEMMA4_TABLE: Table = {
    **GEMMA_TABLE,
    # Beside experts it has units of another number, u.
    "layers.{}.mlp.gate_proj.weight": ("layers.gate", "u d -> d u"),
    "layers.{}.mlp.up_proj.weight": ("layers.up", "u d -> d u"),
    "layers.{}.mlp.down_proj.weight": ("layers.down", "d u -> u d"),
    "embed_tokens_per_layer.weight": ("ends.per_layer_table", "v w -> v w"),
    "per_layer_model_projection.weight": ("ends.per_layer_projection", "w d -> d w"),
    "per_layer_projection_norm.weight": ("ends.per_layer_norm", "w -> w"),
    "layers.{}.per_layer_input_gate.weight": ("layers.per_layer_gate", "w d -> d w"),
    "layers.{}.per_layer_projection.weight": ("layers.per_layer_out", "d w -> w d"),
    "layers.{}.post_per_layer_input_norm.weight": ("layers.per_layer_post_norm", "d -> d"),
    "layers.{}.router.proj.weight": ("layers.router", "e d -> d e"),
    "layers.{}.router.scale": ("layers.router_norm", "d -> d"),
    "layers.{}.router.per_expert_scale": ("layers.router_factor", "e -> e"),
    "layers.{}.experts.gate_up_proj": ("layers.expert_gate layers.expert_up", "e x d -> e d x"),
    "layers.{}.experts.down_proj": ("layers.expert_down", "e d f -> e f d"),
    "layers.{}.post_feedforward_layernorm_1.weight": ("layers.dense_post_norm", "d -> d"),
    "layers.{}.post_feedforward_layernorm_2.weight": ("layers.routed_post_norm", "d -> d"),
    "layers.{}.pre_feedforward_layernorm_2.weight": ("layers.routed_norm", "d -> d"),
    "layers.{}.layer_scalar": ("layers.layer_scale", "1 -> "),
}

MOE_TABLE: Table = {
    **LLAMA_TABLE,
    "layers.{}.mlp.gate.weight": ("layers.router", "e d -> d e"),
    "layers.{}.mlp.experts.{}.gate_proj.weight": ("layers.expert_gate", "f d -> d f"),
    "layers.{}.mlp.experts.{}.up_proj.weight": ("layers.expert_up", "f d -> d f"),
    "layers.{}.mlp.experts.{}.down_proj.weight": ("layers.expert_down", "d f -> f d"),
}

GPT_OSS_TABLE: Table = {
    **LLAMA_TABLE,
    "layers.{}.self_attn.sinks": ("layers.sinks", "n -> n"),
    "layers.{}.mlp.router.weight": ("layers.router", "e d -> d e"),
    "layers.{}.mlp.router.bias": ("layers.router_bias", "e -> e"),
    "layers.{}.mlp.experts.gate_up_proj": (
        "layers.expert_gate layers.expert_up",
        "e d (f x) -> e d (x f)",  # in turn, a unit of each
    ),
    "layers.{}.mlp.experts.gate_up_proj_bias": (
        "layers.expert_gate_bias layers.expert_up_bias",
        "e (f x) -> e (x f)",
    ),
    "layers.{}.mlp.experts.down_proj": ("layers.expert_down", "e f d -> e f d"),
    "layers.{}.mlp.experts.down_proj_bias": ("layers.expert_down_bias", "e d -> e d"),
    # In GGUF files.
    "layers.{}.mlp.experts.gate_proj.weight": ("layers.expert_gate", "e f d -> e d f"),
    "layers.{}.mlp.experts.gate_proj.bias": ("layers.expert_gate_bias", "e f -> e f"),
    "layers.{}.mlp.experts.up_proj.weight": ("layers.expert_up", "e f d -> e d f"),
    "layers.{}.mlp.experts.up_proj.bias": ("layers.expert_up_bias", "e f -> e f"),
    "layers.{}.mlp.experts.down_proj.weight": ("layers.expert_down", "e d f -> e f d"),
    "layers.{}.mlp.experts.down_proj.bias": ("layers.expert_down_bias", "e d -> e d"),
}

QWEN3_5_TABLE: Table = {
    **LLAMA_TABLE,
    "layers.{}.self_attn.q_proj.weight": ("layers.q layers.out_gate", "(a x h) d -> d a (x h)"),
    "layers.{}.self_attn.q_proj.bias": ("layers.q_bias layers.out_gate_bias", "(a x h) -> a (x h)"),
    "layers.{}.linear_attn.in_proj_qkv.weight": ("layers.q layers.k layers.v", "(x h) d -> d x h"),
    "layers.{}.linear_attn.conv1d.weight": (
        "layers.conv_q layers.conv_k layers.conv_v",
        "(x h) 1 t -> x h t",
    ),
    "layers.{}.linear_attn.in_proj_z.weight": ("layers.out_gate", "(n h) d -> d n h"),
    "layers.{}.linear_attn.in_proj_b.weight": ("layers.beta", "n d -> d n"),
    "layers.{}.linear_attn.in_proj_a.weight": ("layers.decay", "n d -> d n"),
    "layers.{}.linear_attn.dt_bias": ("layers.decay_offset", "n -> n"),
    "layers.{}.linear_attn.A_log": ("layers.decay_rate_log", "n -> n"),
    "layers.{}.linear_attn.norm.weight": ("layers.out_norm", "h -> h"),
    "layers.{}.linear_attn.out_proj.weight": ("layers.out", "d (n h) -> n h d"),
}

PHI_TABLE: Table = {
    **LLAMA_TABLE,
    "layers.{}.self_attn.qkv_proj.weight": ("layers.q layers.k layers.v", "(x h) d -> d x h"),
    "layers.{}.mlp.gate_up_proj.weight": ("layers.gate layers.up", "x d -> d x"),
}

OLMO_TABLE: Table = {
    **GEMMA_TABLE,
    "layers.{}.self_attn.q_norm.weight": ("layers.q_norm", "(n h) -> n h"),
    "layers.{}.self_attn.k_norm.weight": ("layers.k_norm", "(n h) -> n h"),
}

GPT2_TABLE: Table = {
    "wte.weight": ("ends.embedding", "v d -> v d"),
    "wpe.weight": ("ends.position_table", "t d -> t d"),
    "ln_f.weight": ("ends.final_norm", "d -> d"),
    "ln_f.bias": ("ends.final_norm_bias", "d -> d"),
    "lm_head.weight": ("ends.head", "v d -> v d"),
    "h.{}.ln_1.weight": ("layers.attention_norm", "d -> d"),
    "h.{}.ln_1.bias": ("layers.attention_norm_bias", "d -> d"),
    "h.{}.attn.c_attn.weight": ("layers.q layers.k layers.v", "d (x h) -> d x h"),
    "h.{}.attn.c_attn.bias": ("layers.q_bias layers.k_bias layers.v_bias", "(x h) -> x h"),
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


def _gemma_stack(stack: str) -> Table:
    """The layers of an encoder or a decoder, by Gemma's names but for two norms."""
    norms = {"input": "pre_self_attn", "post_attention": "post_self_attn"}
    found: dict[str, tuple[str, str] | None] = {f"{stack}.norm.weight": (f"ends.{stack}_norm", "d -> d")}
    for name, to in GEMMA_TABLE.items():
        if to and name.startswith("layers."):
            for theirs, here in norms.items():
                name = name.replace(f"{theirs}_layernorm", f"{here}_layernorm")
            found[f"{stack}.{name}"] = (to[0].replace("layers.", f"{stack}."), to[1])
    return found


T5GEMMA2_TABLE: Table = {
    "encoder.embed_tokens.weight": ("ends.embedding", "v d -> v d"),
    "encoder.embed_tokens.eoi_embedding": ("ends.image_end", "d -> d"),
    "lm_head.out_proj.weight": ("ends.head", "v d -> v d"),
    **_gemma_stack("encoder"),
    **_gemma_stack("decoder"),
}

T5GEMMA_TABLE: Table = {
    **T5GEMMA2_TABLE,
    "decoder.embed_tokens.weight": ("ends.decoder_embedding", "v d -> v d"),
    "decoder.layers.{}.pre_cross_attn_layernorm.weight": ("decoder.cross_norm", "d -> d"),
    "decoder.layers.{}.post_cross_attn_layernorm.weight": ("decoder.cross_post_norm", "d -> d"),
    **{
        name.replace("self_attn.", "cross_attn."): (to[0].replace("decoder.", "decoder.cross_"), to[1])
        for name, to in _gemma_stack("decoder").items()
        if to and "self_attn." in name
    },
}
