"""What a prompted backbone makes of rows: the probability of each choice, or a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from transformers import PreTrainedTokenizerBase

from mpt.data.batches import Batch, Layout, Row, collate
from mpt.data.task import Scoring, Task
from mpt.generate import generate
from mpt.metrics import METRICS
from mpt.models.prompted import Prompted

BATCH = 32  # rows
LONGEST_TEXT = 64  # tokens


def choice_probabilities(
    model: Prompted,
    rows: Sequence[Row],
    prompt: int | Sequence[int] = 0,
    scoring: Scoring = "sum",
    batch_size: int = BATCH,
) -> Float[np.ndarray, "B C"]:
    """p(choice) for each row, normalised over the row's choices.

    A choice's score is the sum, or the mean, of its tokens' log-probabilities. Where every choice is
    one token, one pass per row gives all of them; else each choice is read behind the row.

    Args:
        prompt: the prompt that all rows are read behind, or each row's.
        scoring: see ``Task``.
    """
    graph, state = nnx.split(model)
    prompts = np.broadcast_to(prompt, len(rows)).tolist()
    if all(len(choice) == 1 for row in rows for choice in row.choices):
        scores = np.zeros((len(rows), max(len(row.choices) for row in rows)), np.float32)
        for places, batch in _batches(rows, prompts, batch_size, model.backbone.layout):
            heads = [[choice[0] for choice in rows[i].choices] for i in places]
            ids = np.asarray(heads + heads[-1:] * (batch_size - len(places)), np.int32)
            scores[places] = np.asarray(_token_scores(graph, state, batch, ids))[: len(places)]
    else:
        spread = [row._replace(targets=choice) for row in rows for choice in row.choices]
        prompts = [prompt for row, prompt in zip(rows, prompts) for _ in row.choices]
        flat = np.zeros(len(spread), np.float32)
        for places, batch in _batches(spread, prompts, batch_size, model.backbone.layout):
            flat[places] = np.asarray(_target_scores(graph, state, batch))[: len(places)]
        if scoring == "mean":
            flat /= [len(row.targets) for row in spread]
        scores = flat.reshape(len(rows), -1)
    return np.asarray(jax.nn.softmax(scores, axis=-1))


def _batches(
    rows: Sequence[Row], prompts: Sequence[int], size: int, layout: Layout
) -> Iterator[tuple[range, Batch]]:
    """The rows in batches, each with its rows' places; a short last one is filled up."""
    for start in range(0, len(rows), size):
        places = range(start, min(start + size, len(rows)))
        filled = [*places, *[start] * (size - len(places))]
        yield places, collate([rows[i] for i in filled], [prompts[i] for i in filled], layout)


@jax.jit(static_argnums=0)
def _token_scores(
    graph: nnx.GraphDef, state: nnx.State, batch: Batch, ids: Int[Array, "B C"]
) -> Float[Array, "B C"]:
    logits = nnx.merge(graph, state)(batch).logits[:, 0]
    return jnp.take_along_axis(jax.nn.log_softmax(logits), ids, axis=-1)


@jax.jit(static_argnums=0)
def _target_scores(graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, " B"]:
    log_p = jax.nn.log_softmax(nnx.merge(graph, state)(batch).logits)
    taken = jnp.take_along_axis(log_p, batch.targets[..., None], axis=-1)[..., 0]
    return jnp.sum(taken, axis=-1, where=batch.labelled)


def written(
    model: Prompted, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompt: int = 0
) -> list[str]:
    """The text that the model writes for each row, greedily, up to the end-of-text token."""
    end: Any = tokenizer.eos_token_id
    prompts = model.prompt.compose()
    inputs = [row._replace(targets=[end]) for row in rows]  # the last target is not read
    texts = [""] * len(rows)
    for places, batch in _batches(inputs, [prompt] * len(rows), BATCH, model.backbone.layout):
        found = generate(model.backbone, batch, prompts, most=LONGEST_TEXT, stop=[end])
        for place, ids in zip(places, found):
            texts[place] = str(tokenizer.decode(ids)).strip()
    return texts


def predictions(
    model: Prompted, task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompt: int = 0
) -> list[str]:
    """The likeliest class word of each row, or the text written for it."""
    if not task.choices:
        return written(model, rows, tokenizer, prompt)
    likeliest = choice_probabilities(model, rows, prompt, task.scoring).argmax(axis=1)
    return [task.choices[i] for i in likeliest]


def score(
    model: Prompted, task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompt: int = 0
) -> float:
    """The task's metric on labelled ``rows``, read behind one of the model's prompts."""
    found = predictions(model, task, rows, tokenizer, prompt)
    targets = [
        task.choices[row.label]
        if task.choices
        else str(tokenizer.decode(row.targets, skip_special_tokens=True)).strip()
        for row in rows
    ]
    return METRICS[task.metric](targets, found)
