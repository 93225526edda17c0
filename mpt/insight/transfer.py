"""Scores each prompt on each task, without further training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Task
from mpt.data.text.labelled import Labelled
from mpt.inference.evaluate import choice_probabilities, grade, predictions, target_log_p
from mpt.models.backbone import Backbone
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

# Prompts in a batch: more would make every batch compute prompts that few of its rows use.
ABREAST = 8


class Target(NamedTuple):
    """A task with rows of one of its splits."""

    task: Task
    labelled: Labelled
    split: str


def transfer(
    backbone: Backbone,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Float[np.ndarray, "_ D"]],
    targets: Sequence[Target],
    done: Callable[[], object] = lambda: None,
    layer: int = 0,
) -> Float[np.ndarray, "M T"]:
    """The metric of each prompt on each task; a line per prompt, a column per task.

    Args:
        done: is called after each prompt on each task.
        layer: the layer before which the prompts enter.
    """
    scores = np.zeros((len(prompts), len(targets)))
    for i, vectors in enumerate(prompts):
        model = Prompted(backbone, SoftPrompt(jnp.asarray(vectors[None]), layer))
        for k, (task, (examples, rows), _) in enumerate(targets):
            texts = predictions(model, task, rows, tokenizer)
            scores[i, k] = grade(task, examples, texts)[task.metric]
            done()
    return scores


class Trial(NamedTuple):
    """The result of trying one prompt on a few rows.

    Attributes:
        loss: mean -log p(target) in nats; for classes normalised over them, for free text per token.
        accuracy: the fraction of rows whose class is predicted correctly; None for free text.
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
    """Tries prompts of one length on the same rows; up to ``ABREAST`` prompts share a batch.

    Args:
        done: is called after each prompt.
    """
    results: list[Trial] = []
    width = min(ABREAST, len(prompts))
    for start in range(0, len(prompts), width):
        chunk = prompts[start : start + width]
        padded = [*chunk, *[chunk[0]] * (width - len(chunk))]  # of one size, so that it is compiled once
        model = Prompted(backbone, SoftPrompt(jnp.asarray(np.stack(padded))))
        for trial in _trials_of_batch(model, task, rows, len(chunk)):
            results.append(trial)
            done()
    return results


def _trials_of_batch(model: Prompted, task: Task, rows: Sequence[Row], count: int) -> list[Trial]:
    """The trials of a model's first ``count`` prompts."""
    repeated = [*rows] * count
    indices = np.repeat(np.arange(count), len(rows)).tolist()
    if not task.choices:
        losses = -target_log_p(model, repeated, indices) / [len(row.targets) for row in repeated]
        return [Trial(float(loss), None) for loss in losses.reshape(count, -1).mean(axis=1)]
    probabilities = choice_probabilities(model, repeated, indices)
    labels = np.array([row.label for row in repeated])
    p_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    losses = -np.log(np.maximum(p_label, np.finfo(np.float32).tiny)).reshape(count, -1).mean(axis=1)
    accuracies = (probabilities.argmax(axis=1) == labels).reshape(count, -1).mean(axis=1)
    return [Trial(float(loss), float(accuracy)) for loss, accuracy in zip(losses, accuracies)]
