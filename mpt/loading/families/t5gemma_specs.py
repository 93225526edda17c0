"""From the configs of T5Gemma and T5Gemma 2 to the specs of their models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from mpt.errors import UserError
from mpt.loading.families.decoder_specs import gemma2, gemma3
from mpt.loading.families.values import tied
from mpt.models.attention import NOWHERE
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.t5gemma_spec import T5GemmaSpec


def t5gemma(config: PreTrainedConfig, tensors: Collection[str]) -> T5GemmaSpec:
    """Two stacks of Gemma 2's layers, each with its own sizes and its own table of embeddings."""
    encoder, decoder = (_scaled_inputs(gemma2(part, ())) for part in (config.encoder, config.decoder))
    windows = [window if window == NOWHERE else window + 1 for window in _windows(encoder)]
    ahead = [max(window - 1, 0) for window in windows]  # as many as before
    return T5GemmaSpec(
        encoder=replace(encoder, windows=tuple(windows), ahead=tuple(ahead)),
        decoder=replace(_with_biases(decoder), crosses=encoder.d_model, tied=tied(config, tensors)),
        own_table=True,
        merged=False,
        image_end=None,
        start_token=_start(config, encoder, decoder),
    )


def t5gemma2(config: PreTrainedConfig, tensors: Collection[str]) -> T5GemmaSpec:
    """Two stacks of Gemma 3's layers with one table of embeddings; the encoder is that of texts."""
    if not config.tie_word_embeddings:
        raise UserError("tie_word_embeddings is false: tables apart are not supported; take another model")
    encoder, decoder = (gemma3(part, ()) for part in (config.encoder.text_config, config.decoder))
    # Half of a window is before a position, including it, and half after it.
    windows = [window if window == NOWHERE else (window + 1) // 2 for window in _windows(encoder)]
    ahead = [window if window == NOWHERE else window // 2 for window in _windows(encoder)]
    return T5GemmaSpec(
        encoder=replace(encoder, windows=tuple(windows), ahead=tuple(ahead)),
        decoder=replace(decoder, tied=tied(config, tensors)),
        own_table=False,
        merged=True,
        image_end=config.eoi_token_index,
        start_token=_start(config, encoder, decoder),
    )


def _scaled_inputs(spec: DecoderSpec) -> DecoderSpec:
    """A prompt's vectors are scaled like the embeddings of tokens."""
    return replace(spec, input_scale=spec.embed_scale, embed_scale=1.0)


def _windows(spec: DecoderSpec) -> tuple[int, ...]:
    return spec.windows or (NOWHERE,) * spec.layers


def _with_biases(spec: DecoderSpec) -> DecoderSpec:
    """The maps of the cross-attention have a bias where those of the decoder's own attention do."""
    return replace(spec, biases=(*spec.biases, *(f"cross_{name}" for name in spec.biases)))


def _start(config: PreTrainedConfig, encoder: DecoderSpec, decoder: DecoderSpec) -> int:
    """The token in front of the decoder's text: its beginning-of-text token."""
    if encoder.vocab != decoder.vocab:
        raise UserError(
            f"vocab_size is {encoder.vocab} in the encoder and {decoder.vocab} in the decoder, which is not "
            "supported; take another model"
        )
    start: Any = config.decoder.bos_token_id
    if type(start) is not int or not 0 <= start < decoder.vocab:
        raise UserError(f"decoder: bos_token_id is {start}, no token of {decoder.vocab}; correct it")
    if (other := config.to_dict().get("decoder_start_token_id", start)) not in (start, None):
        raise UserError(
            f"decoder_start_token_id is {other}, and the decoder's bos_token_id, which transformers trains "
            f"with, is {start}; remove one"
        )
    return start
