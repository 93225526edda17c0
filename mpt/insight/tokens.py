"""The tokens nearest to a prompt's vectors, and the norms of the tokens' embeddings for comparison."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from transformers import PreTrainedTokenizerBase

from mpt.models.backbone import Backbone
from mpt.models.decoder import Decoder
from mpt.models.decoder_layer import norm
from mpt.models.encoder_decoder.base import EncoderDecoder
from mpt.models.layers import values

CHUNK = 8192  # tokens that are compared at a time, so that a large embedding table is never copied
AT_ONCE = 64  # vectors whose logits are computed at a time


class Nearest(NamedTuple):
    """The tokens nearest to each of M vectors, best first.

    Attributes:
        ids: the nearest tokens by cosine with their embeddings.
        cosines: these cosines.
        read_out: the nearest tokens by the vector's logits after the final norm.
    """

    ids: Int[np.ndarray, "M k"]
    cosines: Float[np.ndarray, "M k"]
    read_out: Int[np.ndarray, "M k"]


def nearest_tokens(backbone: Backbone, vectors: Float[np.ndarray, "M D"], count: int) -> Nearest:
    """The ``count`` nearest tokens by cosine (Lester et al. 2021, section 7), and by the logit lens.

    The logit lens treats a vector as if it were the last layer's output (nostalgebraist 2020).
    """
    graph, state = nnx.split(backbone)
    ids, cosines = [], []
    for chunk in _chunks(backbone):
        of_chunk = np.asarray(_cosines(graph, state, chunk, vectors))
        indices = np.argsort(-of_chunk, axis=1, kind="stable")[:, :count]
        ids.append(chunk[indices])
        cosines.append(np.take_along_axis(of_chunk, indices, axis=1))
    ids, cosines = np.concatenate(ids, axis=1), np.concatenate(cosines, axis=1)
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    # A few vectors at a time, because each has logits for all of the vocabulary.
    groups = np.array_split(vectors, -(-len(vectors) // AT_ONCE))
    read_out = [np.asarray(_read_out(graph, state, group, count)) for group in groups]
    return Nearest(
        np.take_along_axis(ids, best, axis=1),
        np.take_along_axis(cosines, best, axis=1),
        np.concatenate(read_out),
    )


def token_norms(backbone: Backbone) -> Float[np.ndarray, " V"]:
    """The norm of every token's embedding, as it enters the first layer."""
    graph, state = nnx.split(backbone)
    return np.concatenate([np.asarray(_norms(graph, state, chunk)) for chunk in _chunks(backbone)])


def spelled(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as visible text: · is a space, ↵ a line break; an incomplete character is shown by its id."""
    text = str(tokenizer.decode([token]))
    if not text or "\ufffd" in text:
        return f"[{token}]"
    return "".join({" ": "·", "\n": "↵"}.get(c, c if c.isprintable() else ascii(c)[1:-1]) for c in text)


def _chunks(backbone: Backbone) -> list[Int[np.ndarray, " c"]]:
    vocab = backbone.embedding.shape[0]
    return [np.arange(start, min(start + CHUNK, vocab)) for start in range(0, vocab, CHUNK)]


@partial(jax.jit, static_argnums=0)
def _cosines(
    graph: nnx.GraphDef, state: nnx.State, tokens: Int[Array, " c"], vectors: Float[Array, "M D"]
) -> Float[Array, "M c"]:
    rows = nnx.merge(graph, state).embed(tokens).astype(jnp.float32)
    return unit(vectors) @ unit(rows).T


@partial(jax.jit, static_argnums=0)
def _norms(graph: nnx.GraphDef, state: nnx.State, tokens: Int[Array, " c"]) -> Float[Array, " c"]:
    return jnp.linalg.norm(nnx.merge(graph, state).embed(tokens).astype(jnp.float32), axis=-1)


@partial(jax.jit, static_argnums=(0, 3))
def _read_out(
    graph: nnx.GraphDef, state: nnx.State, vectors: Float[Array, "M D"], count: int
) -> Int[Array, "M k"]:
    backbone = nnx.merge(graph, state)
    return jax.lax.top_k(backbone.logits(final_norm(backbone, vectors.astype(backbone.dtype))), count)[1]


def final_norm(backbone: Decoder | EncoderDecoder, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Applies the normalisation before the output head."""
    if isinstance(backbone, Decoder):
        return norm(backbone.spec, values(backbone.ends), "final_norm", x)
    return backbone.final_norm(x)


def unit(x: Float[Array, "M D"]) -> Float[Array, "M D"]:
    """Scales each vector to norm 1; a zero vector stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
