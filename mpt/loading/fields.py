"""What mpt makes of the fields of a model's config.

A field is used, or it changes nothing, or it may have only the value that mpt computes with. Any other is
refused by its name, so that no model is computed differently from how it was trained.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from mpt.errors import UserError

# What is read of configs in ``decoder_specs.py``, ``t5_specs.py`` and ``t5gemma_specs.py``. Of these,
# a size is a whole number from 1 on.
SIZES = frozenset(
    {
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "n_embd",
        "n_layer",
        "n_head",
        "n_inner",
        "n_positions",
        "d_model",
        "d_kv",
        "d_ff",
        "num_layers",
        "num_decoder_layers",
        "num_heads",
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
        "sliding_window",
        "query_pre_attn_scalar",
        "moe_intermediate_size",
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "top_k_experts",
        "linear_conv_kernel_dim",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_num_key_heads",
        "linear_num_value_heads",
        "vocab_size_per_layer_input",
    }
)
USED = SIZES | frozenset(
    {
        "hidden_act",
        "hidden_activation",
        "activation_function",
        "feed_forward_proj",
        "rms_norm_eps",
        "layer_norm_epsilon",
        "rope_parameters",
        "no_rope_layers",
        "norm_topk_prob",
        "swiglu_alpha",
        "swiglu_limit",
        "mlp_only_layers",
        "decoder_sparse_step",
        "max_position_embeddings",
        "original_max_position_embeddings",
        "attention_bias",
        "mlp_bias",
        "layer_types",
        "text_config",
        "encoder",
        "decoder",
        "bos_token_id",
        "eoi_token_index",
        "hidden_size_per_layer_input",
        "attention_k_eq_v",
        "num_kv_shared_layers",
        "use_double_wide_mlp",
        "enable_moe_block",
        "embedding_multiplier",
        "residual_multiplier",
        "attention_multiplier",
        "logits_scaling",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "tie_word_embeddings",
        "decoder_start_token_id",
        "pad_token_id",
        "eos_token_id",
    }
)

# Names, the sizes of caches, initial values, and what counts only while a backbone is trained.
# The window of Qwen's models is in `layer_types` and `sliding_window` once transformers has read them.
HARMLESS = frozenset(
    {
        "architectures",
        "chunk_size_feed_forward",
        "dtype",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "return_dict",
        "transformers_version",
        "output_hidden_states",
        "output_attentions",
        "use_cache",
        "pretraining_tp",
        "initializer_range",
        "initializer_factor",
        "attention_dropout",
        "dropout_rate",
        "classifier_dropout",
        "classifier_dropout_rate",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_proj_to_labels",
        "summary_first_dropout",
        "reorder_and_upcast_attn",
        "output_router_logits",
        "router_aux_loss_coef",
        "is_decoder",
        "is_encoder_decoder",
        "use_sliding_window",
        "max_window_layers",
        "no_rope_layer_interval",  # in `no_rope_layers`, likewise
        # What reads images and sounds.
        "vision_config",
        "audio_config",
        "boi_token_id",
        "eoi_token_id",
        "boa_token_id",
        "eoa_token_index",
        "audio_token_id",
        "mm_tokens_per_image",
        "boi_token_index",
        "image_token_index",
        "image_token_id",
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
        "projector_hidden_act",
        "vision_feature_layer",
        "multimodal_projector_bias",
        "spatial_merge_size",
    }
)

# The values with which mpt computes. Some of these fields belong to every config, undeclared.
FIXED: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "is_causal": (True,),
    "quantization_config": (None,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "use_bidirectional_attention": (False, None, "vision"),  # the last one is of images alone
}
# By type of model, the fields in which its layers may differ.
DIFFERING = {"gemma4_text": frozenset({"head_dim", "num_key_value_heads"})}
LARGEST = 2**20  # a size beyond it is a fault of the file: the largest vocabularies have a quarter of that


def declared(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields that a config's class has, with their defaults; nobody reads what else a file holds."""
    return {field.name: field.default for field in dataclasses.fields(config)}  # type: ignore[arg-type]


def parts(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """The configs of encoder and decoder within one, and of the encoder's text half; none of images."""
    found = [getattr(config, name) for name in ("encoder", "decoder") if name in declared(config)]
    return [part for whole in found for part in (whole, getattr(whole, "text_config", None)) if part]


def _layers(config: PreTrainedConfig, where: Path) -> list[PreTrainedConfig]:
    """The configs of layers that differ; of a config whose layers do not, itself."""
    if not getattr(config, "is_heterogeneous", False):
        return [config]
    differing = {name for layer in config.to_dict().get("per_layer_config", {}).values() for name in layer}
    if differing - DIFFERING.get(config.model_type, frozenset()):
        raise UserError(
            f"{where}: per_layer_config makes layers differ, which mpt does not support; take another model"
        )
    return list(config.per_layer_config)


def refuse_unknown(config: PreTrainedConfig, where: Path) -> None:
    """Checks that mpt computes what each field of a config asks for.

    Args:
        where: the file of the config, for the error.

    Raises:
        UserError: a field has a value that mpt does not compute with; the error names it.
    """
    layers = _layers(config, where)
    fields = declared(config)
    # Its own fields first: some set others, of all configs, that the file does not have.
    names = sorted(fields.keys() | FIXED.keys(), key=lambda name: (name not in fields, name))
    for name, layer in itertools.product(names, layers):
        value = getattr(layer, name, fields.get(name))
        if name in FIXED:
            if hasattr(layer, name) and value not in FIXED[name]:
                raise UserError(
                    f"{where}: {name} is {value!r}, and mpt computes with {FIXED[name][0]!r} only; "
                    "take another model"
                )
        elif name in SIZES:
            if value is not None and not (type(value) is int and 1 <= value <= LARGEST):
                raise UserError(f"{where}: {name} must be a whole number from 1 to {LARGEST}, not {value!r}")
        elif name not in USED | HARMLESS and value != fields[name]:
            raise UserError(
                f"{where}: {name} is {value!r}, a field that this version of mpt does not know; "
                "take another model, or a newer mpt"
            )
