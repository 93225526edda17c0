"""Generation of text by a prompted backbone: greedy, sampled, or by beam search.

Decoding is one compiled loop over a KV cache. Rows of different lengths and with different prompts are
decoded side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.inference.token_scores import TokenScores
from mpt.models.attention import KV
from mpt.models.backbone import Backbone, DecodingState
from mpt.models.text_places import prompt_positions
from mpt.prompts.prompted import Prompted
from mpt.sharding import replicate
from mpt.types import Batch


@jax.tree_util.register_static
@dataclass(frozen=True)
class Greedy:
    """Greedy decoding: the most likely token at every position."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Sample:
    """Nucleus sampling (Holtzman et al. 2020), the same for all rows.

    Attributes:
        temperature: divides the logits; below 1 it sharpens the distribution.
        top_p: tokens are drawn from the smallest set that has at least this probability.
        seed: the seed of the random draws; the same seed gives the same texts.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@jax.tree_util.register_static
@dataclass(frozen=True)
class Beam:
    """Beam search: the most likely text that a search of some width finds.

    Attributes:
        width: number of unfinished texts that are kept for each row.
        length_penalty: a text's log probability is divided by its length to this power.
    """

    width: int = 4
    length_penalty: float = 1.0


class SamplingParams(NamedTuple):
    """Sampling with parameters of its own for each row; a row's text does not depend on the others.

    Attributes:
        temperature: that of ``Sample``, for each row; at 0 the row is decoded greedily.
        top_p: that of ``Sample``, for each row.
        seed: that of ``Sample``, for each row.
        max_new_tokens: the largest number of new tokens, for each row.
        scored: the rows whose tokens' log probabilities are wanted; None where no row's are.
    """

    temperature: Float[Array, " B"]
    top_p: Float[Array, " B"]
    seed: Int[Array, " B"]
    max_new_tokens: Int[Array, " B"]
    scored: Bool[Array, " B"] | None = None


Method = Greedy | Sample | Beam | SamplingParams

GREEDY = Greedy()
NO_TOKEN = -1


def generate(
    backbone: Backbone,
    batch: Batch,
    prompts: Float[Array, "J P D"],
    *,
    max_new_tokens: int,
    stop: Sequence[int],
    method: Method = GREEDY,
    shift: Float[Array, "N D"] | None = None,
    prefix_kv: KV | None = None,
    layer: int = 0,
) -> list[list[int]]:
    """Generates a text after each row's prompt and inputs.

    Args:
        backbone: the frozen model.
        batch: the rows' inputs, padded on the right; a decoder's text must end where generation begins.
        prompts: the distinct prompts; ``batch.prompt_index`` has the index of each row's prompt.
        max_new_tokens: the largest number of new tokens of a row; if positions are learned, a text also ends
            at the last one.
        stop: tokens that end a text.
        method: how the next token is chosen.
        shift: added to the embeddings of the inputs.
        prefix_kv: every layer's keys and values in front of each prompt; see ``Backbone``.
        layer: the layer before which the prompts enter.

    Returns:
        The new tokens of each row, without the stop token.
    """
    graph, weights = nnx.split(backbone)
    ends = tuple(stop) or (NO_TOKEN,)
    room = positions_left(backbone, batch, prompts, prefix_kv)
    if room is not None:
        most = room.min() if isinstance(method, Beam) else room.max()
        max_new_tokens = min(max_new_tokens, int(most))
    tokens = np.asarray(
        _generate(graph, weights, batch, prompts, shift, prefix_kv, layer, max_new_tokens, ends, method, room)
    )
    stopped = np.isin(tokens, ends)
    lengths = np.where(stopped.any(axis=1), stopped.argmax(axis=1), max_new_tokens)
    return [row[:length].tolist() for row, length in zip(tokens, lengths)]


def positions_left(
    backbone: Backbone, batch: Batch, prompts: Float[Array, "J P D"], prefix_kv: KV | None
) -> Int[np.ndarray, " B"] | None:
    """The most new tokens that each row has positions for; None where these are not learned."""
    if not backbone.positions:
        return None
    # The last new token needs no position, because no token follows it.
    lengths = np.sum(batch.filled, axis=1)
    taken = len(backbone.opening) + prompt_positions(prompts, prefix_kv) + lengths
    return np.maximum(backbone.positions + 1 - taken, 0)


def generate_after_prompt(model: Prompted, batch: Batch, **options: Any) -> list[list[int]]:
    """Generates a text for each row of ``batch`` with the model's prompt in front of its inputs.

    Args:
        options: ``max_new_tokens``, ``stop`` and ``method`` of ``generate``.
    """
    prefix = model.prompt.prefix(batch, model.backbone)
    batch = batch._replace(prompt_index=prefix.prompt_index)
    return generate(
        model.backbone,
        batch,
        prefix.vectors,
        shift=prefix.shift,
        prefix_kv=prefix.kv,
        layer=prefix.layer,
        **options,
    )


@functools.partial(jax.jit, static_argnames=("graph", "layer", "max_new_tokens", "stop"))
def _generate(
    graph: nnx.GraphDef,
    weights: nnx.State,
    batch: Batch,
    prompts: Float[Array, "J P D"],
    shift: Float[Array, "N D"] | None,
    prefix_kv: KV | None,
    layer: int,
    max_new_tokens: int,
    stop: tuple[int, ...],
    method: Method,
    room: Int[Array, " B"] | None,
) -> Int[Array, "B max_new_tokens"]:
    backbone = nnx.merge(graph, weights)
    logits, state = backbone.prefill(batch, prompts, max_new_tokens, shift, prefix_kv, layer)
    if isinstance(method, Beam):
        return replicate(_beam(backbone, logits, state, max_new_tokens, jnp.array(stop), method))
    draft = first_draft(logits, state, max_new_tokens, stop, method, room)
    return replicate(extended(backbone, draft, jnp.array(max_new_tokens), stop, method).tokens)


class Draft(NamedTuple):
    """The text of each row so far.

    Attributes:
        length: number of tokens generated so far.
        tokens: the tokens; stop tokens fill the rest.
        logits: the logits of the next token.
        done: True at rows that have stopped.
        limit: the number of tokens at which each row stops.
        scores: the log probabilities of the tokens, if they are wanted.
        state: the state from which decoding continues.
    """

    length: Int[Array, ""]
    tokens: Int[Array, "B max_new_tokens"]
    logits: Float[Array, "B V"]
    done: Bool[Array, " B"]
    limit: Int[Array, " B"]
    scores: TokenScores | None
    state: DecodingState


def first_draft(
    logits: Float[Array, "B V"],
    state: DecodingState,
    max_new_tokens: int,
    stop: tuple[int, ...],
    method: Greedy | Sample | SamplingParams,
    room: Int[Array, " B"] | None,
) -> Draft:
    """The empty text of each row after its prefill; ``room`` is the most tokens of each."""
    rows, vocab = logits.shape
    each = isinstance(method, SamplingParams)
    limit = jnp.broadcast_to(jnp.asarray(method.max_new_tokens if each else max_new_tokens), rows)
    if room is not None:
        limit = jnp.minimum(limit, room)
    scored = each and method.scored is not None
    return Draft(
        length=jnp.array(0),
        tokens=jnp.full((rows, max_new_tokens), stop[0]),
        logits=logits,
        done=limit <= 0,
        limit=limit,
        scores=TokenScores.empty(rows, max_new_tokens, vocab) if scored else None,
        state=state,
    )


def extended(
    backbone: Backbone,
    draft: Draft,
    until: Int[Array, ""],
    stop: tuple[int, ...],
    method: Greedy | Sample | SamplingParams,
) -> Draft:
    """Greedy and sampled texts up to ``until`` tokens, a token of every row at a time."""

    def unfinished(draft: Draft) -> Bool[Array, ""]:
        return (draft.length < until) & ~jnp.all(draft.done)

    def extend(draft: Draft) -> Draft:
        chosen = jnp.where(draft.done, stop[0], choose(draft.logits, method, draft.length))
        tokens, scores = draft.tokens.at[:, draft.length].set(chosen), draft.scores
        if scores is not None and isinstance(method, SamplingParams) and method.scored is not None:
            scores = scores.with_token(draft.length, draft.logits, chosen, jnp.any(method.scored))
        logits, state = backbone.decode_step(chosen, draft.state)
        done = draft.done | jnp.isin(chosen, jnp.array(stop)) | (draft.length + 1 >= draft.limit)
        return Draft(draft.length + 1, tokens, logits, done, draft.limit, scores, state)

    return jax.lax.while_loop(unfinished, extend, draft)


def choose(
    logits: Float[Array, "B V"], method: Greedy | Sample | SamplingParams, count: Int[Array, ""]
) -> Int[Array, " B"]:
    """Chooses the next token of each row; ``count`` is the number of tokens before it."""
    if isinstance(method, Greedy):
        return jnp.argmax(logits, axis=-1)
    if isinstance(method, SamplingParams):
        return _choose_each(logits, method, count)
    key = jax.random.fold_in(jax.random.key(method.seed), count)
    return jax.random.categorical(key, nucleus(logits / method.temperature, method.top_p))


def _choose_each(
    logits: Float[Array, "B V"], rows: SamplingParams, count: Int[Array, ""]
) -> Int[Array, " B"]:
    most_likely, sampled = jnp.argmax(logits, axis=-1), rows.temperature > 0

    def draw() -> Int[Array, " B"]:
        scaled = logits / jnp.where(sampled, rows.temperature, 1.0)[:, None]
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), count))(rows.seed)
        drawn = jax.vmap(jax.random.categorical)(keys, nucleus(scaled, rows.top_p[:, None]))
        return jnp.where(sampled, drawn, most_likely)

    # Sorting the vocabulary takes long, and is left out where all rows are greedy.
    return jax.lax.cond(jnp.any(sampled), draw, lambda: most_likely)


def nucleus(logits: Float[Array, "B V"], top_p: float | Float[Array, "B 1"]) -> Float[Array, "B V"]:
    """The logits of the smallest set of tokens with probability ``top_p``; all others become -inf.

    >>> nucleus(jnp.log(jnp.array([[0.5, 0.3, 0.2]])), 0.6) > -jnp.inf
    Array([[ True,  True, False]], dtype=bool)
    """
    ranked = jnp.sort(jax.nn.softmax(logits), axis=-1, descending=True)
    before = jnp.cumsum(ranked, axis=-1) - ranked  # the probability of all more likely tokens
    least = jnp.min(ranked, axis=-1, keepdims=True, where=before < top_p, initial=1.0)
    return jnp.where(jax.nn.softmax(logits) >= least, logits, -jnp.inf)


class Search(NamedTuple):
    """The W unfinished texts of each row that a beam search follows, and its best finished one.

    Attributes:
        length: number of tokens generated so far.
        tokens: the tokens of the unfinished texts.
        scores: the log probabilities of the unfinished texts.
        finished: the best finished text; nothing but stop tokens while there is none.
        finished_score: its log probability over its length to the power of the penalty.
        logits: the logits of the unfinished texts' next tokens.
        state: the state from which decoding continues, W rows to a row.
    """

    length: Int[Array, ""]
    tokens: Int[Array, "B W max_new_tokens"]
    scores: Float[Array, "B W"]
    finished: Int[Array, "B max_new_tokens"]
    finished_score: Float[Array, " B"]
    logits: Float[Array, "B*W V"]
    state: DecodingState


def _beam(
    backbone: Backbone,
    logits: Float[Array, "B V"],
    state: DecodingState,
    max_new_tokens: int,
    stop: Int[Array, " stops"],
    method: Beam,
) -> Int[Array, "B max_new_tokens"]:
    """The best text of each row that a beam search finds."""
    (rows, vocab), width, penalty = logits.shape, method.width, method.length_penalty
    row = jnp.arange(rows)[:, None]
    # A text can end in as many ways as there are stop tokens; so many candidates leave W unfinished.
    candidates = min((len(stop) + 1) * width, width * vocab)

    def unfinished(search: Search) -> Bool[Array, ""]:
        """Whether an unfinished text could still beat a row's finished one."""
        # Log probabilities only fall, so this is the best score that an unfinished text can reach.
        longest = jnp.float32(max_new_tokens) if penalty > 0 else (search.length + 1).astype(jnp.float32)
        bound = jnp.max(search.scores, axis=1) / longest**penalty
        return (search.length < max_new_tokens) & jnp.any(bound > search.finished_score)

    def extend(search: Search) -> Search:
        following = jax.nn.log_softmax(search.logits).reshape(rows, width, vocab)
        scores = (search.scores[..., None] + following).reshape(rows, width * vocab)
        scores, index = jax.lax.top_k(scores, candidates)
        parent, token = index // vocab, index % vocab
        tokens = search.tokens[row, parent].at[:, :, search.length].set(token)
        stopped = jnp.isin(token, stop)

        ended = jnp.where(stopped, scores / (search.length + 1).astype(jnp.float32) ** penalty, -jnp.inf)
        best, score = jnp.argmax(ended, axis=1), jnp.max(ended, axis=1)
        better = score > search.finished_score
        finished = jnp.where(better[:, None], tokens[row[:, 0], best], search.finished)
        finished_score = jnp.where(better, score, search.finished_score)

        scores, kept = jax.lax.top_k(jnp.where(stopped, -jnp.inf, scores), width)
        continued = (row * width + parent[row, kept]).reshape(-1)
        logits, state = backbone.decode_step(token[row, kept].reshape(-1), search.state.take_rows(continued))
        tokens = tokens[row, kept]
        return Search(search.length + 1, tokens, scores, finished, finished_score, logits, state)

    copies = jnp.repeat(jnp.arange(rows), width)
    tokens = jnp.full((rows, width, max_new_tokens), stop[0])
    scores = jnp.full((rows, width), -jnp.inf).at[:, 0].set(0.0)  # one text, until the first token
    search = Search(
        length=jnp.array(0),
        tokens=tokens,
        scores=scores,
        finished=tokens[:, 0],
        finished_score=jnp.full(rows, -jnp.inf),
        logits=logits[copies],
        state=state.take_rows(copies),
    )
    search = jax.lax.while_loop(unfinished, extend, search)
    unfinished_score = search.scores[:, 0] / search.length.astype(jnp.float32) ** penalty
    longer = unfinished_score > search.finished_score
    return jnp.where(longer[:, None], search.tokens[:, 0], search.finished)
