"""Initial values of prompts: embedded tokens of a text or of the vocabulary, or random numbers.

A late prompt starts from the hidden states of the same tokens at its layer: the earlier layers process these
tokens alone, from the first position on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mpt.config.options import WHOLE, PromptConfig
from mpt.data.task import Task
from mpt.data.tokenise import check_ids, spell
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.models.backbone import Backbone
from mpt.models.decoder import Decoder
from mpt.models.encoder_decoder.base import EncoderDecoder

# ATTEMPT's choice (Asai et al., EMNLP 2022): the most frequent words of a frequency-ordered vocabulary.
COMMON_ROWS = 5_000


def vocabulary_rows(vocab: int, length: int, seed: int) -> Int[np.ndarray, " P"]:
    """``length`` distinct token ids among the vocabulary's most frequent; refuses more than there are."""
    most = min(COMMON_ROWS, vocab)
    if length > most:
        raise UserError(f"vectors.length: it must be at most {most}, the words to start from, not {length}")
    return np.random.default_rng(seed).choice(most, size=length, replace=False)


def text_rows(ids: list[int], length: int) -> Int[np.ndarray, " P"]:
    """A text's token ids, repeated or cut to ``length``."""
    return np.resize(np.asarray(ids), length)


def starting_vectors(
    config: PromptConfig, tasks: Sequence[Task], seeds: Sequence[int], pretrained: Pretrained
) -> Float[Array, "J P D"]:
    """One starting prompt per (task, seed), as embedded tokens, exactly; or uniform random numbers.

    With a length of 0 it has the instruction's length: the hard prompt, word for word.

    Raises:
        UserError: a task has no instruction, or no class words, to start from; or the backbone has no such
            layer.
    """
    check_layer(config.layer, pretrained.backbone)
    vocab, width = pretrained.backbone.embedding[...].shape
    if config.start == "uniform":
        keys = [jax.random.key(seed) for seed in seeds]
        return jnp.stack(
            [jax.random.uniform(key, (config.length, width), minval=-0.5, maxval=0.5) for key in keys]
        )
    if config.start == "classes":
        classes = [_classes(task, config.length, seed, pretrained) for task, seed in zip(tasks, seeds)]
        return states(jnp.stack(classes), config.layer, pretrained.backbone)
    if config.start == "vocabulary":
        ids = [vocabulary_rows(vocab, config.length, seed) for seed in seeds]
    else:
        tokens = [_tokens(config, task, pretrained) for task in tasks]
        if not config.length and len(set(map(len, tokens))) > 1:
            raise UserError(
                "vectors.length: 0 needs instructions of one length, and these differ; give a number"
            )
        ids = [text_rows(text, config.length or len(text)) for text in tokens]
    return states(pretrained.backbone.embed(jnp.asarray(np.stack(ids))), config.layer, pretrained.backbone)


def states(vectors: Float[Array, "J P D"], layer: int, backbone: Backbone) -> Float[Array, "J P D"]:
    """The hidden states of embedded texts before a layer, in float32."""
    return (backbone.lower_vectors(vectors, layer) if layer else vectors).astype(jnp.float32)


def check_layer(layer: int, backbone: Backbone) -> None:
    """Refuses a layer before which a prompt cannot be inserted.

    Raises:
        UserError: the backbone has no such layer, or its prompts have a part in another stack.
    """
    if layer >= (depth := backbone.depth):
        lenders = isinstance(backbone, Decoder) and depth < backbone.spec.layers
        why = "as later layers use the keys and values of earlier ones" if lenders else "the number of layers"
        raise UserError(f"vectors.layer: it must be below {depth}, {why}, not {layer}")
    if layer and isinstance(backbone, EncoderDecoder) and backbone.spec.decoder_prompt:
        raise UserError("vectors.layer: it cannot be used with model.decoder_prompt; leave one of them out")


def _classes(task: Task, length: int, seed: int, pretrained: Pretrained) -> Float[Array, "P D"]:
    """A vector for each class word, the mean of its tokens; then sampled vocabulary (Lester et al. 2021)."""
    if not task.choices:
        raise UserError(f"task {task.name} has no class words to start its prompt from; set vectors.start")
    embed = pretrained.backbone.embed
    ids = spell(task.choices, pretrained.tokenizer, pretrained.backbone.layout, task.chat)
    words = [embed(jnp.asarray(tokens)).astype(jnp.float32).mean(axis=0) for tokens in ids[:length]]
    vocab = pretrained.backbone.embedding[...].shape[0]
    rest = embed(jnp.asarray(vocabulary_rows(vocab, length - len(words), seed))).astype(jnp.float32)
    return jnp.concatenate([jnp.stack(words), rest]) if words else rest


def instruction_words(
    tasks: Sequence[Task], length: int, pretrained: Pretrained, layer: int = 0
) -> Float[Array, "J Q D"]:
    """The hidden states of each task's instruction before a layer; its end is kept, next to the text.

    Args:
        length: the number of vectors; ``WHOLE`` is the length of the longest one; the others are repeated.
    """
    config = PromptConfig(start="instruction")
    tokens = [_tokens(config, task, pretrained) for task in tasks]
    length = max(map(len, tokens)) if length == WHOLE else length
    ids = [text_rows(text[::-1], length)[::-1] for text in tokens]
    return states(pretrained.backbone.embed(jnp.asarray(np.stack(ids))), layer, pretrained.backbone)


def _tokens(config: PromptConfig, task: Task, pretrained: Pretrained) -> list[int]:
    """The tokens of the words that a task's prompt starts from."""
    text = config.text if config.start == "text" else task.hard_prompt
    if not text:
        remedy = "write vectors.text" if config.start == "text" else "write one, or set vectors.start"
        raise UserError(f"task {task.name} has no instruction to start its prompt from; {remedy}")
    ids: Any = pretrained.tokenizer(text)["input_ids"]
    if ids[:1] == [pretrained.bos]:  # it comes after the prompt, before the text
        ids = ids[1:]
    vocab = pretrained.backbone.embedding.shape[0]
    check_ids(ids, pretrained.tokenizer, vocab, f"task {task.name}: the text that its prompt starts from")
    return ids
