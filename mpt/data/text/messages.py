"""Conversations in files and requests: messages, or a prompt and its completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mpt.data.records import HALF, MISSING, Fault, Record, has_half_a_character, is_missing
from mpt.errors import UserError, nearest

ROLES = ("system", "developer", "user", "assistant")
TOOL_ROLES = ("tool", "function")
# Fields of a message that OpenAI's clients send back as they got them; they must be empty.
EMPTY = ("refusal", "annotations", "audio", "function_call", "tool_calls")
COLUMNS = ("messages", "prompt", "completion", "tools")  # that a row of a conversation may have
ASKED = ("messages", "prompt")  # those that tell one conversation from another


class Turn(NamedTuple):
    """A message of a conversation: who speaks, and the text."""

    role: str
    content: str


def is_conversation(columns: Mapping[str, Any]) -> bool:
    """Whether a row is one: with messages, or with a prompt and its completion (TRL's two forms)."""
    return "messages" in columns or {"prompt", "completion"} <= columns.keys()


def conversation(record: Record) -> list[Turn]:
    """The turns of a row, whose prompt, and completion, may also be texts.

    Raises:
        Fault: the row has none, or one that is more than a text.
    """
    columns = {name: value for name, value in record.columns.items() if _is_there(value)}
    try:
        if columns.get("tools"):
            raise UserError("'tools' is not empty, and tool calls are not supported; leave the row out")
        if "messages" in columns:
            return _turns("messages", columns["messages"], "user")
        if "prompt" in columns:
            after = columns.get("completion", [])
            return [*_turns("prompt", columns["prompt"], "user"), *_turns("completion", after, "assistant")]
    except UserError as error:
        raise Fault("faulty messages", record.where, str(error)) from None
    have = ", ".join(map(str, record.columns))
    reason = f"no column 'messages', nor 'prompt' and 'completion'; it has {have}"
    raise Fault(f"{MISSING} 'messages'", record.where, reason)


def replies(turns: Sequence[Turn]) -> list[int]:
    """The indices of the assistant's turns that follow another turn."""
    return [place for place, turn in enumerate(turns) if turn.role == "assistant" and place]


def answered(record: Record) -> tuple[list[Turn], str]:
    """A row's turns before the assistant's last one, and that one's text.

    Raises:
        Fault: the assistant says nothing in it.
    """
    turns = conversation(record)
    if not (places := replies(turns)):
        reason = "no turn of the assistant after another turn, so there is no reply to learn"
        raise Fault("no reply", record.where, f"{reason}; leave the row out")
    return turns[: places[-1]], turns[places[-1]].content.strip()


def asked(record: Record) -> list[Turn]:
    """A row's turns up to where the assistant is to reply: those in front of its reply, if it is there."""
    turns = conversation(record)
    return turns[:-1] if len(turns) > 1 and turns[-1].role == "assistant" else turns


def by_reply(record: Record) -> Iterator[Record]:
    """A copy of a row for each of the assistant's turns, up to it; the row itself if it has none."""
    turns = conversation(record)
    for place in replies(turns):
        said = [turn._asdict() for turn in turns[: place + 1]]
        yield Record(record.where, {**record.columns, "messages": said})
    if not replies(turns):
        yield record


def read_messages(name: str, given: Any) -> list[Turn]:
    """A list of messages, each with its role and its content as text.

    Raises:
        UserError: there are none, or one is not of that form; ``name`` is their name in the error.
    """
    if not isinstance(given, (list, tuple)) or not given:
        raise UserError(f"{name} must be a list of one or more, each with role and content")
    return [_turn(f"{name}[{i}]", message) for i, message in enumerate(given)]


def _turns(name: str, given: Any, role: str) -> list[Turn]:
    """Messages, or the one that a text stands for; none of an empty list."""
    if isinstance(given, str):
        return [Turn(role, given)]
    return read_messages(name, _without_gaps(given)) if given else []


def _without_gaps(given: Any) -> Any:
    """Messages without fields that are null: a table has every field in every message."""
    if not isinstance(given, (list, tuple)):
        return given
    return [
        {key: value for key, value in each.items() if value is not None or key in ("role", "content")}
        if isinstance(each, Mapping)
        else each
        for each in given
    ]


def _is_there(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) or not is_missing(value)


def _turn(name: str, message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise UserError(f"{name} must be an object with role and content")
    for key, value in message.items():
        if key not in ("role", "content", "name") and not (key in EMPTY and value in (None, [])):
            raise UserError(f"{name}: '{key}' is not supported; leave it out")
    role, content, speaker = message.get("role"), message.get("content"), message.get("name")
    if role in TOOL_ROLES:
        raise UserError(f"{name}: role is '{role}', and tool calls are not supported; leave them out")
    if role not in ROLES:
        raise UserError(f"{name}: role is {role!r}; {nearest(str(role), ROLES)}")
    if isinstance(content, list):
        content = "".join(_part(f"{name}.content[{i}]", part) for i, part in enumerate(content))
    if not isinstance(content, str) or not isinstance(speaker, str | None):
        raise UserError(f"{name}: content must be a text, and name, if there is one, too")
    if has_half_a_character(content):
        raise UserError(f"{name}: {HALF}")
    return Turn("system" if role == "developer" else role, content)


def _part(name: str, part: Any) -> str:
    """The text of a part of a message's content."""
    if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise UserError(f'{name} must be {{"type": "text", "text": ...}}; nothing but text is supported')
    return part["text"]
