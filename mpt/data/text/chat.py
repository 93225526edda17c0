"""Conversations as the model was trained to read them: by its tokenizer's own chat template.

The template writes the special tokens, so its text is tokenised as it stands. It is a program of the model's
own, which transformers runs in a sandbox; nothing else that comes with a model is ever run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from mpt.data.text.messages import Turn
from mpt.errors import UserError, one_line
from mpt.types import Layout

REPLY = "reply"  # any text that a template leaves as it is
# Templates without such a switch ignore it.
THINKING_OFF: dict[str, Any] = {"enable_thinking": False, "thinking": False}


class ReplyForm(NamedTuple):
    """How a template writes the assistant's turn.

    Attributes:
        opening: a short conversation up to where the reply begins.
        spacing: what stands between the opening and the reply.
        end: the special token after the reply; None where there is none.
        closing: what stands between the reply and the next turn, that token in it.
    """

    opening: str
    spacing: str
    end: int | None
    closing: str


def check_chat(task: str, tokenizer: PreTrainedTokenizerBase, layout: Layout) -> None:
    """Refuses a model that does not read conversations, as ``task`` has them.

    Raises:
        UserError: it has no chat template, or an encoder, which knows no turns.
    """
    if layout != "decoder":
        raise UserError(f"task {task}: chat: an encoder-decoder reads no conversations; leave chat out")
    if not tokenizer.chat_template:
        raise UserError(
            f"task {task}: chat: the model's tokenizer has no chat template; take an instruct model, or "
            "leave chat out"
        )


def opened(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of a conversation with the opening of the assistant's turn after it.

    Raises:
        UserError: the template does not take these turns.
    """
    return _rendered(turns, tokenizer, opening=True)


def reply_form(tokenizer: PreTrainedTokenizerBase) -> ReplyForm:
    """How the template writes the assistant's turn."""
    asked = [Turn("user", "a")]
    opening = _rendered(asked, tokenizer, opening=True)
    try:
        whole = _rendered([*asked, Turn("assistant", REPLY)], tokenizer, opening=False)
    except UserError:  # it is made for questions alone
        return ReplyForm(opening, "", None, "")
    before, _, after = whole.rpartition(REPLY)
    spacing = before.removeprefix(opening) if before.startswith(opening) else ""
    first = _ids(tokenizer, after.strip())[:1]
    is_special = bool(first) and first[0] in tokenizer.added_tokens_decoder
    return ReplyForm(opening, spacing, first[0] if is_special else None, after)


def up_to_user(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes of turns and of a user's turn after them, up to the user's own text.

    Raises:
        UserError: the template does not take these turns, or leaves the user's text out.
    """
    one, other = (opened([*turns, Turn("user", text)], tokenizer) for text in "ab")
    if one == other:
        raise UserError("messages: the model's chat template leaves the user's text out; take another model")
    return one[: next(i for i, (a, b) in enumerate(zip(one, other)) if a != b)]


def next_user(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes between a reply and the user's own text in the next turn.

    Raises:
        UserError: it is made for one question alone.
    """
    asked = [Turn("user", "a"), Turn("assistant", REPLY)]
    return up_to_user(asked, tokenizer).rpartition(REPLY)[2]


def reply_tokens(replies: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens of replies as they follow the opening of the assistant's turn, without the turn's end."""
    opening, spacing, *_ = reply_form(tokenizer)
    before, tokens = _ids(tokenizer, opening), []
    for reply in replies:
        whole = _ids(tokenizer, f"{opening}{spacing}{reply.strip()}")
        is_apart = whole[: len(before)] == before
        tokens.append(whole[len(before) :] if is_apart else _ids(tokenizer, spacing + reply.strip()))
    return tokens


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _rendered(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase, opening: bool) -> str:
    try:
        text = tokenizer.apply_chat_template(
            [turn._asdict() for turn in turns],
            tokenize=False,
            add_generation_prompt=opening,
            **THINKING_OFF,
        )
    except Exception as error:  # a template is a program of the model's, and raises what it likes
        raise UserError(f"messages: the model's chat template refuses them: {one_line(error)}") from None
    return str(text)
