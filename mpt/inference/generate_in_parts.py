"""Generation in parts: a few tokens of every row at a time, so that progress can be seen and stopped."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.inference.generate import Draft, SamplingParams, extended, first_draft, positions_left
from mpt.inference.token_scores import TokenScores
from mpt.models.attention import KV
from mpt.models.backbone import DecodingState
from mpt.prompts.prompted import Prompted
from mpt.sharding import replicate
from mpt.types import Batch

TOKENS = 4  # in a part: texts grow smoothly, and the calls between parts cost little


class Part(NamedTuple):
    """What has been generated so far.

    Attributes:
        texts: the new tokens of each row, without the stop token.
        over: which rows have ended. Who reads this may end further rows by marking them here.
        scores: the log probabilities of all tokens, if they were asked for.
    """

    texts: list[list[int]]
    over: Bool[np.ndarray, " B"]
    scores: TokenScores | None


def generate_in_parts(
    model: Prompted, batch: Batch, *, max_new_tokens: int, stop: Sequence[int], method: SamplingParams
) -> Iterator[Part]:
    """Generates what ``generate_after_prompt`` does, and yields it after every few tokens.

    Its programs are compiled for the shapes of the batch and ``max_new_tokens``, whatever the rows ask for.

    Args:
        max_new_tokens: the largest number of new tokens of any row.
        stop: tokens that end a text.
        method: how the next token of each row is chosen.
    """
    prefix = model.prompt.prefix(batch, model.backbone)
    batch = batch._replace(prompt_index=prefix.prompt_index)
    room = positions_left(model.backbone, batch, prefix.vectors, prefix.kv)
    graph, weights = nnx.split(model.backbone)
    ends, length = tuple(stop), 0
    given = prefix.vectors, prefix.shift, prefix.kv, prefix.layer
    draft = _begun(graph, weights, batch, *given, max_new_tokens, ends, method, room)
    over = np.array(draft.done)
    while not length or (length < max_new_tokens and not over.all()):
        length = min(length + TOKENS, max_new_tokens)
        shown = draft._replace(done=jnp.array(over), state=None)
        draft = _extended(graph, weights, shown, draft.state, jnp.array(length), ends, method)
        over = np.array(draft.done)
        tokens = np.array(draft.tokens)[:, :length]
        stops = np.isin(tokens, ends)
        lengths = np.where(stops.any(axis=1), stops.argmax(axis=1), length)
        scores = jax.tree.map(np.array, draft.scores)
        yield Part([row[:end].tolist() for row, end in zip(tokens, lengths)], over, scores)


@functools.partial(jax.jit, static_argnames=("graph", "layer", "max_new_tokens", "stop"))
def _begun(
    graph: nnx.GraphDef,
    weights: nnx.State,
    batch: Batch,
    prompts: Float[Array, "J P D"],
    shift: Float[Array, "N D"] | None,
    prefix_kv: KV | None,
    layer: int,
    max_new_tokens: int,
    stop: tuple[int, ...],
    method: SamplingParams,
    room: Int[Array, " B"] | None,
) -> Draft:
    backbone = nnx.merge(graph, weights)
    logits, state = backbone.prefill(batch, prompts, max_new_tokens, shift, prefix_kv, layer)
    return first_draft(logits, state, max_new_tokens, stop, method, room)


# The KV cache is the one large thing here, and is written in place.
@functools.partial(jax.jit, static_argnames=("graph", "stop"), donate_argnames=("state",))
def _extended(
    graph: nnx.GraphDef,
    weights: nnx.State,
    draft: Draft,
    state: DecodingState,
    until: Int[Array, ""],
    stop: tuple[int, ...],
    method: SamplingParams,
) -> Draft:
    longer = extended(nnx.merge(graph, weights), draft._replace(state=state), until, stop, method)
    seen = jax.tree.map(replicate, (longer.tokens, longer.done, longer.scores))
    return longer._replace(tokens=seen[0], done=seen[1], scores=seen[2])
