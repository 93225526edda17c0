"""Predictions of a prompted backbone: the probabilities of a row's classes, or a generated text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from scipy.special import softmax
from transformers import PreTrainedTokenizerBase

from mpt.data.batches import Sizes, collate
from mpt.data.task import Example, Task
from mpt.data.tokenise import decoded
from mpt.errors import UserError
from mpt.inference.generate import generate_after_prompt
from mpt.metrics import METRICS, Truth
from mpt.prompts.class_head import headed
from mpt.prompts.prompted import Prompted
from mpt.sharding import replicate
from mpt.system.said import LINE_EVERY, say
from mpt.types import Batch, Layout, Row

BATCH = 32  # rows

Sizing = Callable[[Sequence[Row], Layout], Sizes]
SCORED: Sizing = partial(Sizes.of, classes=True)  # of rows whose class words are scored


def choice_probabilities(
    model: Prompted,
    rows: Sequence[Row],
    prompt: int | Sequence[int] = 0,
    batch_size: int = BATCH,
    sizing: Sizing = SCORED,
) -> Float[np.ndarray, "B C"]:
    """The probability of each choice of each row, normalised over the row's choices; 0 beyond its last.

    The score of a choice is the sum, or the mean, of its tokens' log-probabilities, as the row says. One
    pass over a row's text and the tree of its choices scores all of them; see ``mpt.data.class_tree``.

    Args:
        prompt: the index of the prompt of all rows, or of each row's.
        batch_size: number of rows in a batch.
        sizing: a function from the rows of a batch to the sizes of its arrays; all batches have the largest.

    Raises:
        UserError: a score is not a number.
    """
    graph, state = nnx.split(model)
    rows, prompts = headed(model.prompt, rows), np.broadcast_to(prompt, len(rows)).tolist()
    width = max(len(row.choices) for row in rows)
    scores = np.full((len(rows), width), -np.inf, np.float32)
    for indices, batch in in_batches(rows, prompts, batch_size, model.backbone.layout, sizing):
        scores[indices] = np.asarray(_class_scores(graph, state, batch))[: len(indices), :width]
    if np.isnan(scores).any():
        raise UserError("the scores of the classes are not numbers; train the prompt again, in float32")
    return softmax(scores, axis=-1)  # not JAX's softmax, which would be compiled for each number of rows


def in_batches(
    rows: Sequence[Row], prompts: Sequence[int], size: int, layout: Layout, sizing: Sizing = Sizes.of
) -> Iterator[tuple[list[int], Batch]]:
    """Yields batches of ``size`` rows, or fewer, with the indices of these rows.

    Rows are dealt out by length, so that all batches are about equally large; all are padded to the largest,
    for one program to read them. Each batch is filled up with copies of its shortest row.
    """
    longest_first = sorted(range(len(rows)), key=lambda i: -len(rows[i].inputs))
    count = math.ceil(len(rows) / size)
    dealt = [longest_first[start::count] for start in range(count)]
    padded = [indices + indices[-1:] * (size - len(indices)) for indices in dealt]
    sizes = Sizes.largest([sizing([rows[i] for i in each], layout) for each in padded]) if rows else None
    for number, (indices, each) in enumerate(zip(dealt, padded)):
        if number:
            say(f"{number * size:,} of {len(rows):,} rows are answered", every=LINE_EVERY)
        yield indices, collate([rows[i] for i in each], [prompts[i] for i in each], layout, sizes)


@jax.jit(static_argnums=0)
def _class_scores(graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, "B C"]:
    scores = nnx.merge(graph, state)(batch).classes
    assert scores is not None
    return replicate(scores)


def target_log_p(
    model: Prompted, rows: Sequence[Row], prompts: Sequence[int], batch_size: int = BATCH
) -> Float[np.ndarray, " R"]:
    """The log-probability of each row's target with the prompt of that index, summed over its tokens."""
    graph, state = nnx.split(model)
    found = np.zeros(len(rows))
    for indices, batch in in_batches(rows, prompts, batch_size, model.backbone.layout):
        found[indices] = np.asarray(target_scores(graph, state, batch))[: len(indices)]
    return found


@jax.jit(static_argnums=0)
def target_scores(graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, " B"]:
    """The log-probability of each row's target, summed over its tokens."""
    log_p = jax.nn.log_softmax(nnx.merge(graph, state)(batch).logits)
    target_log_p = jnp.take_along_axis(log_p, batch.targets[..., None], axis=-1)[..., 0]
    return replicate(jnp.sum(target_log_p, axis=-1, where=batch.labelled))


def written(
    model: Prompted,
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    prompt: int = 0,
) -> list[str]:
    """The text that the model generates for each row, greedily, up to a token that ends it.

    That is the end-of-text token, or the one that ends the rows' own targets: the end of a chat's turn. No
    text has more tokens than the task allows.
    """
    end: Any = tokenizer.eos_token_id
    ends = sorted({end, *(int(row.targets[-1]) for row in rows if not row.choices)})
    inputs = [row._replace(targets=[end]) for row in rows]  # the last target is not read
    texts = [""] * len(rows)
    for indices, batch in in_batches(inputs, [prompt] * len(rows), BATCH, model.backbone.layout):
        generated = generate_after_prompt(model, batch, max_new_tokens=task.max_new_tokens, stop=ends)
        for index, ids in zip(indices, generated):
            texts[index] = decoded(tokenizer, ids).strip()
    return texts


class Answers(NamedTuple):
    """A model's answers to rows.

    Attributes:
        texts: the likeliest class word of each row, or the text that was generated for it.
        probabilities: the probability of each class word; None for free text.
    """

    texts: list[str]
    probabilities: Float[np.ndarray, "B C"] | None


def calibrated(probabilities: Float[np.ndarray, "B C"]) -> Float[np.ndarray, "B C"]:
    """Batch calibration: removes the model's bias towards some classes from its probabilities.

    It subtracts from log p(c|x) its mean over the rows, and normalises again. It reads no labels, but needs
    many rows, and classes that are about equally frequent. Zhou et al. (ICLR 2024) use the mean of the
    probabilities; the mean of their logarithms still separates rows if a prompt is nearly sure of one class.

    >>> calibrated(np.array([[0.9, 0.1], [0.6, 0.4]])).round(2)
    array([[0.71, 0.29],
           [0.29, 0.71]])
    """
    scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return softmax(scores - scores.mean(axis=0), axis=-1)


def answers(
    model: Prompted,
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    prompt: int = 0,
    calibrate: bool = False,
) -> Answers:
    """The model's answers to rows: the likeliest class words, or generated texts.

    Args:
        prompt: the index of the prompt.
        calibrate: whether to apply batch calibration to the probabilities; see ``calibrated``.
    """
    say(f"answering {len(rows):,} rows of {task.name}", every=LINE_EVERY)
    if not task.choices:
        return Answers(written(model, task, rows, tokenizer, prompt), None)
    probabilities = choice_probabilities(model, rows, prompt)
    if calibrate:
        probabilities = calibrated(probabilities)
    return Answers([task.choices[i] for i in probabilities.argmax(axis=1)], probabilities)


def predictions(
    model: Prompted, task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompt: int = 0
) -> list[str]:
    """The model's answers to rows, as texts; see ``answers``."""
    return answers(model, task, rows, tokenizer, prompt).texts


def grade(task: Task, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
    """Computes each of the task's metrics on predictions for labelled examples.

    Raises:
        UserError: there are no examples, or a metric cannot use their targets.
        ValueError: the numbers of predictions and examples differ.
    """
    if not examples:
        raise UserError(f"task {task.name}: there are no rows to grade")
    if len(examples) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions of {len(examples)} examples")
    truths = [
        Truth(example.references or (example.target,), example.group, example.choices) for example in examples
    ]
    return {name: METRICS[name](truths, predictions) for name in task.metrics}
