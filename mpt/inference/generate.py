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

from mpt.models.backbone import Backbone, State
from mpt.sharding import everywhere
from mpt.types import Batch


@jax.tree_util.register_static
@dataclass(frozen=True)
class Greedy:
    """The likeliest token, each time."""


@jax.tree_util.register_static
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


@jax.tree_util.register_static
@dataclass(frozen=True)
class Beam:
    """The likeliest text among those that a search of some width finds.

    Attributes:
        width: unfinished texts kept per row.
        length_penalty: a text's log probability is divided by its length to this power.
    """

    width: int = 4
    length_penalty: float = 1.0


class Each(NamedTuple):
    """Each row in its own way, all in one program; a row's text does not depend on the others.

    Attributes:
        temperature: as ``Sample``'s; at 0 a row gets the likeliest token, each time.
        top_p: as ``Sample``'s.
        seed: as ``Sample``'s.
        most: tokens to write at most.
    """

    temperature: Float[Array, " B"]
    top_p: Float[Array, " B"]
    seed: Int[Array, " B"]
    most: Int[Array, " B"]


Method = Greedy | Sample | Beam | Each

GREEDY = Greedy()
NONE = -1  # no token


def generate(
    backbone: Backbone,
    batch: Batch,
    prompts: Float[Array, "J P D"],
    *,
    most: int,
    stop: Sequence[int],
    method: Method = GREEDY,
    shift: Float[Array, "N D"] | None = None,
) -> list[list[int]]:
    """Continues each row's inputs behind its prompt.

    Args:
        backbone: the frozen model.
        batch: the rows' inputs, padded on the right; a decoder's text must end where writing begins.
        prompts: the tasks' prompts; ``batch.prompt_index`` says which is whose.
        most: tokens to write at most, for any row.
        stop: tokens that end a text.
        method: how the next token is chosen.
        shift: is added to the inputs' embeddings.

    Returns:
        Each row's tokens, without the stop token.
    """
    graph, weights = nnx.split(backbone)
    ends = tuple(stop) or (NONE,)
    tokens = np.asarray(_written(graph, weights, batch, prompts, shift, most, ends, method))
    stopped = np.isin(tokens, ends)
    lengths = np.where(stopped.any(axis=1), stopped.argmax(axis=1), most)
    return [row[:length].tolist() for row, length in zip(tokens, lengths)]


@functools.partial(jax.jit, static_argnames=("graph", "most", "stop"))
def _written(
    graph: nnx.GraphDef,
    weights: nnx.State,
    batch: Batch,
    prompts: Float[Array, "J P D"],
    shift: Float[Array, "N D"] | None,
    most: int,
    stop: tuple[int, ...],
    method: Method,
) -> Int[Array, "B most"]:
    backbone = nnx.merge(graph, weights)
    logits, state = backbone.start(batch, prompts, most, shift)
    if isinstance(method, Beam):
        return everywhere(_beam(backbone, logits, state, most, jnp.array(stop), method))
    return everywhere(_one_by_one(backbone, logits, state, most, jnp.array(stop), method))


class Draft(NamedTuple):
    """One text per row, as far as it is written.

    Attributes:
        written: tokens written.
        tokens: the tokens, the rest stop tokens.
        logits: of the next token.
        done: rows that have stopped.
    """

    written: Int[Array, ""]
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
    method: Greedy | Sample | Each,
) -> Int[Array, "B most"]:
    """Greedy and sampled texts."""
    rows = len(logits)
    limit = jnp.asarray(method.most if isinstance(method, Each) else most)

    def unfinished(draft: Draft) -> Bool[Array, ""]:
        return (draft.written < most) & ~jnp.all(draft.done)

    def extend(draft: Draft) -> Draft:
        chosen = jnp.where(draft.done, stop[0], choose(draft.logits, method, draft.written))
        tokens = draft.tokens.at[:, draft.written].set(chosen)
        logits, state = backbone.step(chosen, draft.state)
        done = draft.done | jnp.isin(chosen, stop) | (draft.written + 1 >= limit)
        return Draft(draft.written + 1, tokens, logits, done, state)

    tokens, done = jnp.full((rows, most), stop[0]), jnp.broadcast_to(limit <= 0, rows)
    draft = Draft(jnp.array(0), tokens, logits, done, state)
    return jax.lax.while_loop(unfinished, extend, draft).tokens


def choose(
    logits: Float[Array, "B V"], method: Greedy | Sample | Each, count: Int[Array, ""]
) -> Int[Array, " B"]:
    """The next token of each row, the ``count``-th of its text."""
    if isinstance(method, Greedy):
        return jnp.argmax(logits, axis=-1)
    if isinstance(method, Each):
        return _choose_each(logits, method, count)
    key = jax.random.fold_in(jax.random.key(method.seed), count)
    return jax.random.categorical(key, nucleus(logits / method.temperature, method.top_p))


def _choose_each(logits: Float[Array, "B V"], rows: Each, count: Int[Array, ""]) -> Int[Array, " B"]:
    likeliest, sampled = jnp.argmax(logits, axis=-1), rows.temperature > 0

    def draw() -> Int[Array, " B"]:
        scaled = logits / jnp.where(sampled, rows.temperature, 1.0)[:, None]
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), count))(rows.seed)
        drawn = jax.vmap(jax.random.categorical)(keys, nucleus(scaled, rows.top_p[:, None]))
        return jnp.where(sampled, drawn, likeliest)

    # Ranking the vocabulary takes long; rows that are all greedy are spared it.
    return jax.lax.cond(jnp.any(sampled), draw, lambda: likeliest)


def nucleus(logits: Float[Array, "B V"], top_p: float | Float[Array, "B 1"]) -> Float[Array, "B V"]:
    """Logits of the smallest set of tokens with probability ``top_p``; the others' are -inf.

    >>> nucleus(jnp.log(jnp.array([[0.5, 0.3, 0.2]])), 0.6) > -jnp.inf
    Array([[ True,  True, False]], dtype=bool)
    """
    ranked = jnp.sort(jax.nn.softmax(logits), axis=-1, descending=True)
    before = jnp.cumsum(ranked, axis=-1) - ranked  # the probability of all likelier tokens
    least = jnp.min(ranked, axis=-1, keepdims=True, where=before < top_p, initial=1.0)
    return jnp.where(jax.nn.softmax(logits) >= least, logits, -jnp.inf)


class Search(NamedTuple):
    """The texts that a beam search follows, W to a row, and each row's best finished one.

    Attributes:
        written: tokens written.
        tokens: of the texts still open.
        scores: their log probabilities.
        finished: the best finished text; stop tokens only while there is none.
        finished_score: its log probability over its length to the penalty's power.
        logits: of the open texts' next tokens.
    """

    written: Int[Array, ""]
    tokens: Int[Array, "B W most"]
    scores: Float[Array, "B W"]
    finished: Int[Array, "B most"]
    finished_score: Float[Array, " B"]
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
    """The best text that a beam search finds."""
    (rows, vocab), width, penalty = logits.shape, method.width, method.length_penalty
    each = jnp.arange(rows)[:, None]
    # An open text can stop in as many ways as there are stop tokens; this many leave enough open.
    candidates = min((len(stop) + 1) * width, width * vocab)

    def unfinished(search: Search) -> Bool[Array, ""]:
        """Whether an open text could still beat a row's finished one."""
        # Log probabilities only fall, so this bounds what can come of an open text.
        length = jnp.float32(most) if penalty > 0 else (search.written + 1).astype(jnp.float32)
        hope = jnp.max(search.scores, axis=1) / length**penalty
        return (search.written < most) & jnp.any(hope > search.finished_score)

    def extend(search: Search) -> Search:
        following = jax.nn.log_softmax(search.logits).reshape(rows, width, vocab)
        scores = (search.scores[..., None] + following).reshape(rows, width * vocab)
        scores, place = jax.lax.top_k(scores, candidates)
        parent, token = place // vocab, place % vocab
        tokens = search.tokens[each, parent].at[:, :, search.written].set(token)
        stopped = jnp.isin(token, stop)

        ended = jnp.where(stopped, scores / (search.written + 1).astype(jnp.float32) ** penalty, -jnp.inf)
        best, score = jnp.argmax(ended, axis=1), jnp.max(ended, axis=1)
        better = score > search.finished_score
        finished = jnp.where(better[:, None], tokens[each[:, 0], best], search.finished)
        finished_score = jnp.where(better, score, search.finished_score)

        scores, kept = jax.lax.top_k(jnp.where(stopped, -jnp.inf, scores), width)
        continued = (each * width + parent[each, kept]).reshape(-1)
        logits, state = backbone.step(token[each, kept].reshape(-1), search.state.rows(continued))
        tokens = tokens[each, kept]
        return Search(search.written + 1, tokens, scores, finished, finished_score, logits, state)

    copies = jnp.repeat(jnp.arange(rows), width)
    tokens = jnp.full((rows, width, most), stop[0])
    scores = jnp.full((rows, width), -jnp.inf).at[:, 0].set(0.0)  # one text, until it branches
    search = Search(
        written=jnp.array(0),
        tokens=tokens,
        scores=scores,
        finished=tokens[:, 0],
        finished_score=jnp.full(rows, -jnp.inf),
        logits=logits[copies],
        state=state.rows(copies),
    )
    search = jax.lax.while_loop(unfinished, extend, search)
    open_score = search.scores[:, 0] / search.written.astype(jnp.float32) ** penalty
    longest = open_score > search.finished_score
    return jnp.where(longest[:, None], search.tokens[:, 0], search.finished)
