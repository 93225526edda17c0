"""Text from a prompted backbone: greedy, sampled, or the best of a beam.

The whole of writing is one compiled loop over a memory of keys and values. Rows of different lengths
and of different prompts' tasks are written side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mpt.data.batches import Batch
from mpt.models.backbone import Backbone, State


@dataclass(frozen=True)
class Greedy:
    """The likeliest token, each time."""


@dataclass(frozen=True)
class Sample:
    """A random token of the likeliest (Holtzman et al. 2020).

    Attributes:
        temperature: divides the logits; below 1 sharpens the distribution.
        top_p: the smallest set of tokens with at least this probability is drawn from.
        seed: the same seed draws the same texts.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Beam:
    """The likeliest text among those that a search of some width finds.

    Attributes:
        width: unfinished texts kept per row.
        length_penalty: a text's log probability is divided by its length to this power.
    """

    width: int = 4
    length_penalty: float = 1.0


Method = Greedy | Sample | Beam


def generate(
    backbone: Backbone,
    batch: Batch,
    prompts: Float[Array, "J P D"],
    *,
    most: int,
    stop: Sequence[int],
    method: Method = Greedy(),
) -> list[list[int]]:
    """Continues each row's inputs behind its prompt.

    Args:
        backbone: the frozen model.
        batch: the rows' inputs, padded on the right; a decoder's text must end where writing begins.
        prompts: the tasks' prompts; ``batch.prompt_index`` says which is whose.
        most: tokens to write at most.
        stop: tokens that end a text.
        method: how the next token is chosen.

    Returns:
        Each row's tokens, without the stop token.
    """
    graph, weights = nnx.split(backbone)
    tokens = np.asarray(_written(graph, weights, batch, prompts, most, tuple(stop), method))
    ends = np.isin(tokens, stop)
    lengths = np.where(ends.any(axis=1), ends.argmax(axis=1), most)
    return [row[:length].tolist() for row, length in zip(tokens, lengths)]


@functools.partial(jax.jit, static_argnames=("graph", "most", "stop", "method"))
def _written(
    graph: nnx.GraphDef,
    weights: nnx.State,
    batch: Batch,
    prompts: Float[Array, "J P D"],
    most: int,
    stop: tuple[int, ...],
    method: Method,
) -> Int[Array, "B most"]:
    backbone = nnx.merge(graph, weights)
    logits, state = backbone.start(batch, prompts, most)
    if isinstance(method, Beam):
        return _beam(backbone, logits, state, most, jnp.array(stop), method)
    return _one_by_one(backbone, logits, state, most, jnp.array(stop), method)


class Draft(NamedTuple):
    """One text per row, as far as it is written.

    Attributes:
        count: tokens written.
        tokens: the tokens, the rest stop tokens.
        logits: of the next token.
        done: rows that have stopped.
    """

    count: Int[Array, ""]
    tokens: Int[Array, "B most"]
    logits: Float[Array, "B V"]
    done: Bool[Array, " B"]
    state: State


def _one_by_one(
    backbone: Backbone,
    logits: Float[Array, "B V"],
    state: State,
    most: int,
    stop: Int[Array, " stops"],
    method: Greedy | Sample,
) -> Int[Array, "B most"]:
    """Greedy and sampled texts."""
    rows = len(logits)

    def unfinished(draft: Draft) -> Bool[Array, ""]:
        return (draft.count < most) & ~jnp.all(draft.done)

    def extend(draft: Draft) -> Draft:
        chosen = jnp.where(draft.done, stop[0], choose(draft.logits, method, draft.count))
        tokens = draft.tokens.at[:, draft.count].set(chosen)
        logits, state = backbone.step(chosen, draft.state)
        return Draft(draft.count + 1, tokens, logits, draft.done | jnp.isin(chosen, stop), state)

    tokens, done = jnp.full((rows, most), stop[0]), jnp.zeros(rows, bool)
    draft = Draft(jnp.array(0), tokens, logits, done, state)
    return jax.lax.while_loop(unfinished, extend, draft).tokens


def choose(logits: Float[Array, "B V"], method: Greedy | Sample, count: Int[Array, ""]) -> Int[Array, " B"]:
    """The next token of each row, the ``count``-th of its text."""
    if isinstance(method, Greedy):
        return jnp.argmax(logits, axis=-1)
    key = jax.random.fold_in(jax.random.key(method.seed), count)
    return jax.random.categorical(key, nucleus(logits / method.temperature, method.top_p))


def nucleus(logits: Float[Array, "B V"], top_p: float) -> Float[Array, "B V"]:
    """Logits of the smallest set of tokens with probability ``top_p``; the others' are -inf.

    >>> nucleus(jnp.log(jnp.array([[0.5, 0.3, 0.2]])), 0.6) > -jnp.inf
    Array([[ True,  True, False]], dtype=bool)
    """
    ranked = jnp.sort(jax.nn.softmax(logits), axis=-1, descending=True)
    before = jnp.cumsum(ranked, axis=-1) - ranked  # the probability of all likelier tokens
    least = jnp.min(ranked, axis=-1, keepdims=True, where=before < top_p, initial=1.0)
    return jnp.where(jax.nn.softmax(logits) >= least, logits, -jnp.inf)


class Search(NamedTuple):
    """The texts that a beam search follows, W to a row, and the best finished ones.

    Attributes:
        count: tokens written.
        tokens: of the texts still open.
        scores: their log probabilities.
        finished: the best finished texts.
        finished_scores: their log probabilities over their lengths; -inf where there is none yet.
        logits: of the open texts' next tokens.
    """

    count: Int[Array, ""]
    tokens: Int[Array, "B W most"]
    scores: Float[Array, "B W"]
    finished: Int[Array, "B W most"]
    finished_scores: Float[Array, "B W"]
    logits: Float[Array, "B*W V"]
    state: State


def _beam(
    backbone: Backbone,
    logits: Float[Array, "B V"],
    state: State,
    most: int,
    stop: Int[Array, " stops"],
    method: Beam,
) -> Int[Array, "B most"]:
    """The best text that a beam search finds; of equal texts the first."""
    (rows, vocab), width = logits.shape, method.width
    each = jnp.repeat(jnp.arange(rows), width)

    def unfinished(search: Search) -> Bool[Array, ""]:
        """Whether an open text could still beat a row's best finished one."""
        # Scores only fall, so the best that can come of one is what it has over the longest length.
        length = most if method.length_penalty > 0 else search.count + 1
        hope = jnp.max(search.scores, axis=1) / length**method.length_penalty
        return (search.count < most) & jnp.any(hope > jnp.max(search.finished_scores, axis=1))

    def extend(search: Search) -> Search:
        following = jax.nn.log_softmax(search.logits).reshape(rows, width, vocab)
        scores = (search.scores[..., None] + following).reshape(rows, width * vocab)
        # Of twice the width, enough remain open if as many as the width have just stopped.
        scores, place = jax.lax.top_k(scores, min((len(stop) + 1) * width, width * vocab))
        parent, token = place // vocab, place % vocab
        tokens = jnp.take_along_axis(search.tokens, parent[..., None], axis=1)
        tokens = tokens.at[:, :, search.count].set(token)
        stopped = jnp.isin(token, stop)

        ended = jnp.where(stopped, scores / (search.count + 1) ** method.length_penalty, -jnp.inf)
        ended = jnp.concatenate([search.finished_scores, ended], axis=1)
        finished_scores, best = jax.lax.top_k(ended, width)
        finished = jnp.concatenate([search.finished, tokens], axis=1)
        finished = jnp.take_along_axis(finished, best[..., None], axis=1)

        scores, best = jax.lax.top_k(jnp.where(stopped, -jnp.inf, scores), width)
        tokens = jnp.take_along_axis(tokens, best[..., None], axis=1)
        parent, token = (jnp.take_along_axis(part, best, axis=1).reshape(-1) for part in (parent, token))
        logits, state = backbone.step(token, search.state.rows(each * width + parent))
        return Search(search.count + 1, tokens, scores, finished, finished_scores, logits, state)

    tokens = jnp.full((rows, width, most), stop[0])
    none = jnp.full((rows, width), -jnp.inf)
    first = none.at[:, 0].set(0.0)  # all beams of a row are one text until it branches
    search = Search(jnp.array(0), tokens, first, tokens, none, logits[each], state.rows(each))
    search = jax.lax.while_loop(unfinished, extend, search)
    open_scores = search.scores / jnp.maximum(search.count, 1) ** method.length_penalty
    scores = jnp.concatenate([search.finished_scores, open_scores], axis=1)
    texts = jnp.concatenate([search.finished, search.tokens], axis=1)
    return jnp.take_along_axis(texts, jnp.argmax(scores, axis=1)[:, None, None], axis=1)[:, 0]
