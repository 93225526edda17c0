"""A class head that starts without a bias towards some of the classes.

Some class words are more likely than others whatever the text says. Otherwise, training would have to correct
this first, with steps as large as those that learn the task.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from mpt.adaptation.held_out import Scores, class_scores
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

CALIBRATED = 128  # rows from which a prompt's bias is estimated


def calibrated_start(model: Prompted, learnt: Sequence[Sequence[Row]]) -> Prompted:
    """The model with a bias per class, so that all classes have the same mean score over the training rows.

    This is batch calibration (Zhou et al., ICLR 2024) on training rows. The classes have equal weight,
    however frequent they are. A prompt without a class head is not changed.

    Args:
        learnt: the training rows of each prompt; prompts with the same rows must have the same start.
    """
    if not isinstance(model.prompt, HeadedPrompt):
        return model
    distinct = {id(rows): index for index, rows in enumerate(learnt)}
    pairs = [(row, index) for index in distinct.values() for row in learnt[index][:CALIBRATED]]
    scores = class_scores(model, [row for row, _ in pairs], [index for _, index in pairs])
    of_prompt = np.array([index for _, index in pairs])

    bias = np.array(model.prompt.bias[...])
    for index, rows in enumerate(learnt):
        mine = of_prompt == distinct[id(rows)]
        leaning = leanings(Scores(scores.log_p[mine], scores.labels[mine]))
        bias[index, : len(leaning)] -= leaning
    prompt = nnx.clone(model.prompt)
    prompt.bias[...] = jnp.asarray(bias)
    return Prompted(model.backbone, prompt)


def leanings(scores: Scores) -> Float[np.ndarray, " C"]:
    """Each class's mean score over rows, with equal weight for the rows' classes; the scores' mean is 0.

    >>> half = np.log([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    >>> leanings(Scores(half, np.array([0, 1, 1]))).round(2)
    array([ 0.65, -0.65])
    """
    means = [scores.log_p[scores.labels == label].mean(axis=0) for label in np.unique(scores.labels)]
    mean = np.mean(means, axis=0)
    return mean - mean.mean()
