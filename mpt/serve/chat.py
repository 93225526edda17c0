"""Messages of a chat as a row, rendered as the rows of training are."""

from __future__ import annotations

from collections.abc import Sequence

from mpt.data.text.chat import opened, reply_form
from mpt.data.text.messages import Turn
from mpt.data.tokenise import answer_end, begun, check_ids, token_ids
from mpt.errors import UserError
from mpt.inference.predict import Ready
from mpt.types import Row


def row_of(messages: Sequence[Turn], ready: Ready) -> Row:
    """Messages as the backbone reads them, followed by the opening of the assistant's turn.

    Raises:
        UserError: the tokenizer has no template, its template does not take these messages, they are too
            long, or they begin with other turns than those that the prompt stands after.
    """
    tokenizer = ready.pretrained.tokenizer
    if not tokenizer.chat_template:
        raise UserError("the model's tokenizer has no chat template; use /v1/completions")
    turns, opening = ready.task.with_system(messages), ready.pretrained.opening
    if opening:
        (ids,), front = token_ids(tokenizer, [opening.after(turns, tokenizer)]), len(opening.tokens)
    else:
        ids, front = begun(token_ids(tokenizer, [opened(turns, tokenizer)])[0], ready.pretrained.bos), 0
    check_ids(ids, tokenizer, ready.pretrained.backbone.embedding.shape[0], "messages")
    if front + len(ids) > ready.max_length:
        raise UserError(
            f"messages take {front + len(ids)} tokens, and task {ready.task.name} was trained on at most "
            f"{ready.max_length} (max_length); leave some out"
        )
    return Row(ids, [answer_end(tokenizer, chat=True)])


def turn_ends(ready: Ready) -> tuple[int, ...]:
    """The special token with which the template ends the assistant's turn; none if it has none."""
    tokenizer = ready.pretrained.tokenizer
    end = reply_form(tokenizer).end if tokenizer.chat_template else None
    return () if end is None else (end,)


def answer_ends(ready: Ready) -> tuple[int, ...]:
    """The special token that ends an answer of a task that is a chat; none of another task."""
    return turn_ends(ready) if ready.task.chat else ()
