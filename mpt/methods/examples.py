"""Training examples as part of the prompt (Brown et al., NeurIPS 2020): nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from transformers import PreTrainedTokenizerBase

from mpt.config.methods import ExamplesConfig
from mpt.data.task import Task
from mpt.data.text.chat import next_user, reply_form
from mpt.data.tokenise import answer_end, check_ids, token_ids
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.stage import Lengths
from mpt.types import Row


class Context(NamedTuple):
    """A text of instruction and examples.

    Attributes:
        ids: its tokens.
        spans: the index of each example's row -> its first token, and the one after its last.
    """

    ids: list[int]
    spans: dict[int, tuple[int, int]]


def in_context(
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    tokens: int,
    seed: int,
    bos: int | None = None,
    option: str = "examples.tokens",
) -> Context:
    """The instruction and, in random order, as many examples as fit: inputs, targets, an empty line.

    They act as token ids before every input, so they are a hard prompt. In a chat, each is a conversation,
    which ends with its template's end of the assistant's turn. Inside the user's turn they are earlier
    questions and replies of the same conversation.

    Args:
        tokens: the maximum number of ids.
        bos: the token that begins every row, and the text after the examples; an example has none.
        option: the name of the option that gives ``tokens``, for the error.

    Raises:
        UserError: not one example fits.
    """
    closing = "\n\n"
    if task.chat:
        closing = next_user(tokenizer) if task.place == "user" else reply_form(tokenizer).closing
    ids, lines = token_ids(tokenizer, [task.hard_prompt, closing])
    spans: dict[int, tuple[int, int]] = {}
    for place in np.random.default_rng(seed).permutation(len(rows)):
        row = rows[int(place)]
        shown = _shown(row, task, tokenizer, bos)
        if len(ids) + len(shown) + len(lines) > tokens:
            break
        spans[int(place)] = len(ids), len(ids) + len(shown)
        ids += shown + lines
    if not spans:
        raise UserError(f"{option}: not one example of {task.name} fits into {tokens} tokens; give more")
    return Context(ids, spans)


def _shown(row: Row, task: Task, tokenizer: PreTrainedTokenizerBase, bos: int | None) -> list[int]:
    """An example's tokens, without the tokens that begin and end a text."""
    if not task.chat:
        return [int(i) for i in (*row.inputs, *row.targets) if i not in (tokenizer.eos_token_id, bos)]
    # Within a conversation, the end of a text may also be the end of a turn.
    inputs, targets = [*map(int, row.inputs)], [*map(int, row.targets)]
    ended = targets[-1:] == [answer_end(tokenizer, chat=True)]
    return inputs[inputs[:1] == [bos] :] + targets[: len(targets) - ended]


def prompt_of_examples(
    task: Task, rows: Sequence[Row], pretrained: Pretrained, tokens: int, seed: int
) -> SoftPrompt:
    """A hard prompt of the instruction and as many examples as fit into ``tokens``, see ``in_context``."""
    ids = in_context(task, rows, pretrained.tokenizer, tokens, seed, pretrained.bos).ids
    check_ids(ids, pretrained.tokenizer, pretrained.backbone.embedding.shape[0], f"task {task.name}")
    return SoftPrompt(pretrained.backbone.embed(jnp.asarray([ids])).astype(jnp.float32))


def start(setting: Setting) -> Start:
    """The examples as a hard prompt."""
    (task,), (seed,), (rows,) = setting.tasks, setting.seeds, setting.rows
    assert not isinstance(rows, Lengths)
    prompt = prompt_of_examples(task, rows, setting.pretrained, setting.options.tokens, seed)
    return Start(Prompted(setting.pretrained.backbone, prompt), "examples in context")


METHOD = Method("examples", "in-context examples", start, ExamplesConfig, side_by_side=False, trained=False)
