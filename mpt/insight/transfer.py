"""How well each prompt does on each task, without training it for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Example, Task
from mpt.data.tokenise import Row
from mpt.evaluate import grade, predictions
from mpt.models.backbone import Backbone
from mpt.models.prompted import Prompted
from mpt.prompts import SoftPrompt


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
