"""Training examples as part of the prompt (Brown et al., NeurIPS 2020): nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Task
from mpt.errors import UserError
from mpt.types import Row


def in_context(
    task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, tokens: int, seed: int
) -> list[int]:
    """The instruction and, in random order, as many examples as fit: inputs, targets, an empty line.

    They read as token ids in front of every input do, so they are a hard prompt.

    Args:
        tokens: how many ids there may be.

    Raises:
        UserError: not one example fits.
    """
    ids, lines = (
        [*tokenizer(text, add_special_tokens=False)["input_ids"]] for text in (task.instruction, "\n\n")
    )
    bare = len(ids)
    for place in np.random.default_rng(seed).permutation(len(rows)):
        row = rows[int(place)]
        shown = [int(i) for i in (*row.inputs, *row.targets) if i != tokenizer.eos_token_id]
        if len(ids) + len(shown) + len(lines) > tokens:
            break
        ids += shown + lines
    if len(ids) == bare:
        raise UserError(
            f"examples.tokens: not one example of {task.name} fits into {tokens} tokens; give more"
        )
    return ids
