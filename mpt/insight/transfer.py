"""How well each prompt does on each task, without training it for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Example, Task
from mpt.inference.evaluate import BATCH, choice_probabilities, grade, in_batches, predictions, target_scores
from mpt.models.backbone import Backbone
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

# Prompts in one batch: few rows of each fill it, and no batch reads many prompts that none of its rows need.
ABREAST = 8


class Held(NamedTuple):
    """A task's labelled rows: examples, and the same ones tokenised; and the split that they are of."""

    task: Task
    examples: Sequence[Example]
    rows: Sequence[Row]
    split: str


def transfer(
    backbone: Backbone,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Float[np.ndarray, "_ D"]],
    targets: Sequence[Held],
    done: Callable[[], object] = lambda: None,
) -> Float[np.ndarray, "M T"]:
    """Each target's metric behind each prompt, as it is.

    Args:
        done: called after each prompt on each target.
    """
    found = np.zeros((len(prompts), len(targets)))
    for i, vectors in enumerate(prompts):
        model = Prompted(backbone, SoftPrompt(jnp.asarray(vectors[None])))
        for k, target in enumerate(targets):
            texts = predictions(model, target.task, target.rows, tokenizer)
            found[i, k] = grade(target.task, target.examples, texts)[target.task.metric]
            done()
    return found


class Trial(NamedTuple):
    """What one prompt, as it is, makes of few rows.

    Attributes:
        loss: mean -log p(target) in nats: of a class among the classes, of a text per token.
        accuracy: share of the rows whose class is found; None for texts.
    """

    loss: float
    accuracy: float | None


def trials(
    backbone: Backbone,
    task: Task,
    rows: Sequence[Row],
    prompts: Sequence[Float[np.ndarray, "P D"]],
    done: Callable[[], object] = lambda: None,
) -> list[Trial]:
    """Each prompt on the same rows; the prompts have one length, and ``ABREAST`` share a batch.

    Args:
        done: called after each prompt.
    """
    found: list[Trial] = []
    width = min(ABREAST, len(prompts))
    for start in range(0, len(prompts), width):
        part = prompts[start : start + width]
        filled = [*part, *[part[0]] * (width - len(part))]  # one program for all
        model = Prompted(backbone, SoftPrompt(jnp.asarray(np.stack(filled))))
        for trial in _side_by_side(model, task, rows, len(part)):
            found.append(trial)
            done()
    return found


def _side_by_side(model: Prompted, task: Task, rows: Sequence[Row], count: int) -> list[Trial]:
    """The trials of a model's first ``count`` prompts."""
    asked = [*rows] * count
    places = np.repeat(np.arange(count), len(rows)).tolist()
    if not task.choices:
        return [Trial(loss, None) for loss in _text_losses(model, asked, places).reshape(count, -1).mean(1)]
    shares = choice_probabilities(model, asked, places, task.scoring)
    labels = np.array([row.label for row in asked])
    right = np.take_along_axis(shares, labels[:, None], axis=1)[:, 0]
    losses = -np.log(np.maximum(right, np.finfo(np.float32).tiny)).reshape(count, -1).mean(axis=1)
    hits = (shares.argmax(axis=1) == labels).reshape(count, -1).mean(axis=1)
    return [Trial(float(loss), float(hit)) for loss, hit in zip(losses, hits)]


def _text_losses(model: Prompted, rows: Sequence[Row], places: Sequence[int]) -> Float[np.ndarray, " B"]:
    """Each row's -log p per token of its target."""
    graph, state = nnx.split(model)
    scores = np.zeros(len(rows))
    for batch_places, batch in in_batches(rows, places, BATCH, model.backbone.layout):
        scores[batch_places] = np.asarray(target_scores(graph, state, batch))[: len(batch_places)]
    return -scores / [len(row.targets) for row in rows]
