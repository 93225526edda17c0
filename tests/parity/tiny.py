"""Tiny random checkpoints, made by transformers' own classes."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from mpt.data import batches

VOCAB = 48

_decoder = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_t5 = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
    "eos_token_id": 2,
}
_rope3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

DECODERS = {
    "llama": lambda: hf.LlamaConfig(**_decoder),
    "llama-3": lambda: hf.LlamaConfig(**_decoder, rope_parameters=_rope3, tie_word_embeddings=True),
    "llama-biases": lambda: hf.LlamaConfig(**_decoder, attention_bias=True, mlp_bias=True),
    "mistral": lambda: hf.MistralConfig(**_decoder, sliding_window=5),
    "qwen2": lambda: hf.Qwen2Config(**_without(_decoder, "head_dim")),
    "qwen2-window": lambda: hf.Qwen2Config(
        **_without(_decoder, "head_dim"), use_sliding_window=True, sliding_window=5, max_window_layers=2
    ),
    "qwen3": lambda: hf.Qwen3Config(**_decoder | {"head_dim": 12}),
    "gemma2": lambda: hf.Gemma2Config(
        **_decoder,
        sliding_window=5,
        query_pre_attn_scalar=6,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=2.0,
    ),
    "gemma3_text": lambda: hf.Gemma3TextConfig(
        **_decoder,
        sliding_window=5,
        query_pre_attn_scalar=6,
        sliding_window_pattern=3,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
        },
    ),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=4, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
}

ENCODER_DECODERS = {
    "t5-1.0": lambda: hf.T5Config(**_t5),
    "t5-1.1": lambda: hf.T5Config(**_t5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "byt5": lambda: hf.T5Config(**_t5 | {"num_layers": 5}, feed_forward_proj="gated-gelu"),
    "mt5": lambda: hf.MT5Config(**_t5),
    "umt5": lambda: hf.UMT5Config(**_t5),
}

# Those whose head the config may tie but whose checkpoints carry one of its own.
UNTIED = {"t5-1.1", "mt5"}


def _without(config: dict, name: str) -> dict:
    return {key: value for key, value in config.items() if key != name}


def save(family: str, folder: Path, **options) -> Path:
    """A checkpoint and a tokenizer in ``folder``, with every weight random, norms and biases too."""
    torch.manual_seed(0)
    if family in DECODERS:
        model = hf.AutoModelForCausalLM.from_config(DECODERS[family]())
    else:
        model = hf.AutoModelForSeq2SeqLM.from_config(ENCODER_DECODERS[family]())
    if family in UNTIED:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                scale = 1.0 if "shared" in name or "relative" in name else 0.2
                parameter.copy_(scale * torch.randn_like(parameter))
    model.save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> hf.PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w3"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w2", pad_token="w0", unk_token="w3")


def reference(family: str, folder: Path) -> hf.PreTrainedModel:
    """transformers' reading of the checkpoint, in float32 and plain attention."""
    kind = hf.AutoModelForCausalLM if family in DECODERS else hf.AutoModelForSeq2SeqLM
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def collate(*rows_and_prompts) -> batches.Batch:
    """A batch as a step sees it: JAX's arrays."""
    return jax.tree.map(jnp.asarray, batches.collate(*rows_and_prompts))
