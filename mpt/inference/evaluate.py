"""What a prompted backbone makes of rows: the probability of each choice, or a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from scipy.special import softmax
from transformers import PreTrainedTokenizerBase

from mpt.data.batches import Sizes, bucket, collate
from mpt.data.task import Example, Scoring, Task
from mpt.errors import UserError
from mpt.inference.generate import generate_behind_prompt
from mpt.metrics import METRICS, Truth
from mpt.prompts.prompted import Prompted
from mpt.sharding import everywhere
from mpt.types import Batch, Layout, Row

BATCH = 32  # rows
LONGEST_TEXT = 64  # tokens

Sizing = Callable[[Sequence[Row], Layout], Sizes]


def choice_probabilities(
    model: Prompted,
    rows: Sequence[Row],
    prompt: int | Sequence[int] = 0,
    scoring: Scoring = "sum",
    batch_size: int = BATCH,
    sizing: Sizing = Sizes.of,
) -> Float[np.ndarray, "B C"]:
    """p(choice) for each row, normalised over the row's choices; 0 where a row has fewer than others.

    A choice's score is the sum, or the mean, of its tokens' log-probabilities. Where every choice is
    one token, one pass per row gives all of them; else each choice is read behind the row.

    Args:
        prompt: the prompt that all rows are read behind, or each row's.
        scoring: see ``Task``.
        sizing: the sizes of a batch's arrays; each distinct one is compiled once.
    """
    graph, state = nnx.split(model)
    prompts = np.broadcast_to(prompt, len(rows)).tolist()
    width = max(len(row.choices) for row in rows)
    scores = np.full((len(rows), width), -np.inf, np.float32)
    there = np.arange(width) < np.array([len(row.choices) for row in rows])[:, None]
    if all(len(choice) == 1 for row in rows for choice in row.choices):
        ids = np.zeros(scores.shape, np.int32)
        ids[there] = [choice[0] for row in rows for choice in row.choices]
        for places, batch in in_batches(rows, prompts, batch_size, model.backbone.layout, sizing):
            asked = np.zeros((batch_size, bucket(width, 1)), np.int32)
            asked[: len(places), :width] = ids[places]
            found = np.asarray(_token_scores(graph, state, batch, asked))[: len(places), :width]
            scores[places] = np.where(there[places], found, -np.inf)
    else:
        spread = [row._replace(targets=choice) for row in rows for choice in row.choices]
        prompts = [prompt for row, prompt in zip(rows, prompts) for _ in row.choices]
        flat = np.zeros(len(spread), np.float32)
        for places, batch in in_batches(spread, prompts, batch_size, model.backbone.layout, sizing):
            flat[places] = np.asarray(target_scores(graph, state, batch))[: len(places)]
        if scoring == "mean":
            flat /= [len(row.targets) for row in spread]
        scores[there] = flat
    return softmax(scores, axis=-1)  # not JAX's, which would compile for each number of rows


def in_batches(
    rows: Sequence[Row], prompts: Sequence[int], size: int, layout: Layout, sizing: Sizing = Sizes.of
) -> Iterator[tuple[range, Batch]]:
    """The rows in batches, each with its rows' places; a short last one is filled up."""
    for start in range(0, len(rows), size):
        places = range(start, min(start + size, len(rows)))
        filled = [*places, *[start] * (size - len(places))]
        taken = [rows[i] for i in filled]
        yield places, collate(taken, [prompts[i] for i in filled], layout, sizing(taken, layout))


@jax.jit(static_argnums=0)
def _token_scores(
    graph: nnx.GraphDef, state: nnx.State, batch: Batch, ids: Int[Array, "B C"]
) -> Float[Array, "B C"]:
    logits = nnx.merge(graph, state)(batch).logits[:, 0]
    return everywhere(jnp.take_along_axis(jax.nn.log_softmax(logits), ids, axis=-1))


@jax.jit(static_argnums=0)
def target_scores(graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, " B"]:
    log_p = jax.nn.log_softmax(nnx.merge(graph, state)(batch).logits)
    taken = jnp.take_along_axis(log_p, batch.targets[..., None], axis=-1)[..., 0]
    return everywhere(jnp.sum(taken, axis=-1, where=batch.labelled))


def written(
    model: Prompted, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompt: int = 0
) -> list[str]:
    """The text that the model writes for each row, greedily, up to the end-of-text token."""
    end: Any = tokenizer.eos_token_id
    inputs = [row._replace(targets=[end]) for row in rows]  # the last target is not read
    texts = [""] * len(rows)
    for places, batch in in_batches(inputs, [prompt] * len(rows), BATCH, model.backbone.layout):
        found = generate_behind_prompt(model, batch, max_new_tokens=LONGEST_TEXT, stop=[end])
        for place, ids in zip(places, found):
            texts[place] = str(tokenizer.decode(ids)).strip()
    return texts


class Answers(NamedTuple):
    """What a model makes of rows.

    Attributes:
        texts: the likeliest class word of each row, or the text written for it.
        shares: the probability of each class word; None of free text.
    """

    texts: list[str]
    shares: Float[np.ndarray, "B C"] | None


def calibrated(shares: Float[np.ndarray, "B C"]) -> Float[np.ndarray, "B C"]:
    """Probabilities without the model's liking for some classes, whatever the text (batch calibration).

    log p(c|x) minus its mean over the rows, normalised again. No label is looked at, but there must be many
    rows, and their classes about as frequent. Zhou et al. (ICLR 2024) take the mean of probabilities; that of
    their logarithms still tells rows apart where a prompt is nearly sure of one class.

    >>> calibrated(np.array([[0.9, 0.1], [0.6, 0.4]])).round(2)
    array([[0.71, 0.29],
           [0.29, 0.71]])
    """
    scores = np.log(np.maximum(shares, np.finfo(np.float32).tiny))
    return softmax(scores - scores.mean(axis=0), axis=-1)


def answers(
    model: Prompted,
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    prompt: int = 0,
    calibrate: bool = False,
) -> Answers:
    """The class words that the model finds likeliest, perhaps ``calibrated``, or the texts that it writes."""
    if not task.choices:
        return Answers(written(model, rows, tokenizer, prompt), None)
    shares = choice_probabilities(model, rows, prompt, task.scoring)
    if calibrate:
        shares = calibrated(shares)
    return Answers([task.choices[i] for i in shares.argmax(axis=1)], shares)


def predictions(
    model: Prompted, task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompt: int = 0
) -> list[str]:
    """The texts of the model's answers."""
    return answers(model, task, rows, tokenizer, prompt).texts


def grade(task: Task, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
    """Each of the task's metrics of what was predicted for labelled examples.

    Raises:
        UserError: there are no examples, or their targets do not suit a metric.
        ValueError: there is not one prediction to each example.
    """
    if not examples:
        raise UserError(f"task {task.name}: there are no rows to grade")
    if len(examples) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions of {len(examples)} examples")
    truths = [
        Truth(example.references or (example.target,), example.group, example.choices) for example in examples
    ]
    return {name: METRICS[name](truths, predictions) for name in task.metrics}
