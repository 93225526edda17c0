"""From the config of each family of encoder-decoders to the spec of its model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from transformers import PreTrainedConfig

from mpt.errors import UserError
from mpt.loading.families.values import activation, tied
from mpt.models.encoder_decoder.t5_spec import T5Spec


def t5(config: PreTrainedConfig, tensors: Collection[str]) -> T5Spec:
    """T5 1.0, 1.1, LM-adapted, Flan and ByT5."""
    is_tied = tied(config, tensors)
    start = config.to_dict().get("decoder_start_token_id") or 0
    if not 0 <= start < config.vocab_size:
        raise UserError(
            f"decoder_start_token_id is {start}, and the embedding has {config.vocab_size} rows; correct it"
        )
    scaled = config.to_dict().get("scale_decoder_outputs", is_tied)
    return T5Spec(
        vocab=config.vocab_size,
        d_model=config.d_model,
        layers=config.num_layers,
        decoder_layers=config.num_decoder_layers,
        heads=config.num_heads,
        head_dim=config.d_kv,
        d_ff=config.d_ff,
        activation=activation(config.dense_act_fn),
        gated=config.is_gated_act,
        buckets=config.relative_attention_num_buckets,
        max_distance=config.relative_attention_max_distance,
        bias_everywhere=False,
        norm_eps=config.layer_norm_epsilon,
        logit_scale=config.d_model**-0.5 if scaled else 1.0,
        tied=is_tied,
        start_token=start,
    )


def mt5(config: PreTrainedConfig, tensors: Collection[str]) -> T5Spec:
    return replace(t5(config, tensors), logit_scale=1.0)


def umt5(config: PreTrainedConfig, tensors: Collection[str]) -> T5Spec:
    return replace(t5(config, tensors), bias_everywhere=True)
