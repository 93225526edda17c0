"""The vectors that a prompt starts from."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mpt.config import PromptConfig
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.models.hf import Pretrained
from mpt.prompts.initial import text_rows, vocabulary_rows


def starting_vectors(
    config: PromptConfig, tasks: Sequence[Task], seeds: Sequence[int], pretrained: Pretrained
) -> Float[Array, "J P D"]:
    """One starting prompt per (task, seed), as embedded tokens, exactly.

    A length of 0 stands for the instruction's own: the hard prompt, word for word.

    Raises:
        UserError: a task has no instruction to start from.
    """
    vocab = len(pretrained.backbone.embedding[...])
    if config.start == "vocabulary":
        # Seeds of different tasks must differ too, or all teachers would start alike.
        ids = [vocabulary_rows(vocab, config.length, seed * len(tasks) + j) for j, seed in enumerate(seeds)]
    else:
        for task in tasks:
            if not task.instruction:
                raise UserError(
                    f"task {task.name} has no instruction to start its prompt from; write one, "
                    "or set vectors.start to vocabulary"
                )
        texts = [pretrained.tokenizer(task.instruction)["input_ids"] for task in tasks]
        ids = [text_rows(text, config.length or len(text)) for text in texts]
    return pretrained.backbone.embed(jnp.asarray(np.stack(ids))).astype(jnp.float32)
