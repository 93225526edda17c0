"""The JSON bodies of requests: what may stand in them, and how they are read."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from mpt.config.ranges import Range
from mpt.config.yaml_file import from_plain
from mpt.data.files import ENCODING, parse_line, unreadable
from mpt.data.records import Fault
from mpt.data.text.messages import Turn, read_messages
from mpt.errors import UserError, nearest
from mpt.inference.token_scores import LIKELIEST
from mpt.serve.text import TextSampling

SEEDS = 2**31  # a seed is an int32
STOPS = 4  # stop texts
NEW_TOKENS = 64  # of a text, where a request does not say

# Fields of OpenAI's API that are not supported, with the value at which they have no effect.
UNSUPPORTED: dict[str, Any] = {
    "n": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
}
UNSUPPORTED_COMPLETION: dict[str, Any] = UNSUPPORTED | {"best_of": 1, "echo": False, "suffix": None}
UNSUPPORTED_CHAT: dict[str, Any] = UNSUPPORTED | {
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "none",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "audio": None,
    "prediction": None,
    "store": False,
}


@dataclass(frozen=True)
class StreamOptions:
    """Options of an answer that is streamed.

    Attributes:
        include_usage: whether a last event counts the tokens.
    """

    include_usage: bool = False


@dataclass(frozen=True)
class Generation(ABC):
    """What every request to generate has, besides its texts.

    Attributes:
        model: the name of the task.
        max_tokens: maximum number of tokens to generate.
        seed: the seed of the first text; the i-th text uses seed + i.
        temperature: 0 takes the likeliest token at each step, as `mpt predict` does; above 0, tokens are
            drawn.
        top_p: tokens are drawn from the smallest set that has at least this probability.
        stop: texts before which the answer is cut.
        user: a name of the client, which is ignored.
        stream: whether the answer is sent as it grows.
        stream_options: how it is sent then.
    """

    model: str
    max_tokens: int
    seed: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    user: str = ""
    stream: bool = False
    stream_options: StreamOptions = field(default_factory=StreamOptions)

    @property
    @abstractmethod
    def likeliest(self) -> int | None:
        """As in ``TextSampling``."""

    def sampling(self, index: int = 0, ends: tuple[int, ...] = ()) -> TextSampling:
        """The sampling parameters of the text with this index, which tokens of ``ends`` end, too."""
        seed = (self.seed + index) % SEEDS
        return TextSampling(
            self.temperature, self.top_p, seed, self.max_tokens, self.stop, ends, self.likeliest
        )


@dataclass(frozen=True)
class Completion(Generation):
    """A request to continue texts.

    Attributes:
        logprobs: for how many of the likeliest tokens in each one's place the log probability is returned;
            none is, where it is left out.
    """

    logprobs: int = -1

    @property
    def likeliest(self) -> int | None:
        return None if self.logprobs < 0 else self.logprobs


@dataclass(frozen=True)
class Chat(Generation):
    """A request to reply to messages.

    Attributes:
        logprobs: whether the log probability of each token is returned.
        top_logprobs: for how many of the most likely tokens at each position it is returned, too.
        max_completion_tokens: OpenAI's newer name of max_tokens.
    """

    logprobs: bool = False
    top_logprobs: int = 0
    max_completion_tokens: int = 0

    @property
    def likeliest(self) -> int | None:
        return self.top_logprobs if self.logprobs else None


@dataclass(frozen=True)
class Classification:
    """A request to classify, without its texts.

    Attributes:
        task: the name of the task.
    """

    task: str


Asked = TypeVar("Asked", bound=Generation)


def ranges(max_tokens: int) -> dict[str, Range]:
    """The range of each number that a request may have."""
    return {
        "max_tokens": Range(1, max_tokens),
        "max_completion_tokens": Range(1, max_tokens),
        "seed": Range(0, SEEDS - 1),
        "temperature": Range(0, 2),
        "top_p": Range(0, 1, open=True),
        "logprobs": Range(0, 5),
        "top_logprobs": Range(0, LIKELIEST),
    }


def read_completion(body: bytes, max_rows: int, max_tokens: int) -> tuple[Completion, list[Any]]:
    """Reads a request to continue texts, and the texts.

    Raises:
        UserError: the body is invalid, or uses a feature that is not supported.
    """
    values = _values(body, Completion, "prompt", UNSUPPORTED_COMPLETION)
    prompts = _several(values, "prompt", max_rows)
    return _generation(Completion, values, max_tokens), prompts


def read_chat(body: bytes, max_tokens: int) -> tuple[Chat, list[Turn]]:
    """Reads a request to reply to messages, and the messages.

    Raises:
        UserError: the body is invalid, or uses a feature that is not supported.
    """
    values = _values(body, Chat, "messages", UNSUPPORTED_CHAT)
    messages = read_messages("messages", values.pop("messages"))
    chat = _generation(Chat, values, max_tokens)
    if chat.top_logprobs and not chat.logprobs:
        raise UserError("top_logprobs needs logprobs: true")
    return replace(chat, max_tokens=chat.max_completion_tokens or chat.max_tokens), messages


def read_classification(body: bytes, max_rows: int) -> tuple[Classification, list[Any]]:
    """Reads a request to classify, and its texts.

    Raises:
        UserError: the body is invalid.
    """
    values = _values(body, Classification, "inputs", {})
    inputs = _several(values, "inputs", max_rows)
    return from_plain(Classification, values, "the request"), inputs


def _generation(kind: type[Asked], values: dict[str, Any], max_tokens: int) -> Asked:
    """Builds a request from the fields of its body, without its texts."""
    values = {name: int(value) if _is_whole(value) else value for name, value in values.items()}
    if isinstance(values.get("stop"), str):
        values["stop"] = [values["stop"]]
    defaults = {"max_tokens": min(NEW_TOKENS, max_tokens), "seed": secrets.randbelow(SEEDS)}
    request = from_plain(kind, defaults | values, "the request")
    for name, allowed in ranges(max_tokens).items():
        number = values.get(name, allowed.most)
        if not isinstance(number, bool) and not allowed.holds(number):
            start = f"above {allowed.least} and at most" if allowed.open else f"from {allowed.least} to"
            raise UserError(f"{name} must be {start} {allowed.most}")
    if len(request.stop) > STOPS or not all(request.stop):
        raise UserError("stop must be up to four texts, none empty")
    return request


def _values(body: bytes, kind: type, texts: str, unsupported: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a body; a field that is null counts as left out.

    Args:
        kind: has the fields that are known, besides ``texts`` and what has no effect.
        texts: the field that a request is about, which must be there.
        unsupported: further fields of OpenAI's, each with the value that is let through.
    """
    text = body.decode(ENCODING, errors="surrogateescape")
    record = unreadable("the request", text) or parse_line("the request", text)
    if isinstance(record, Fault):
        raise record
    known = [texts, *(each.name for each in fields(kind))]
    for name, value in record.columns.items():
        if name not in (*known, *unsupported):
            raise UserError(f"the request: unknown key '{name}'; {nearest(name, known)}")
        if name in unsupported and value is not None and not _same(value, unsupported[name]):
            raise UserError(f"'{name}' is not supported; leave it out")
    if record.columns.get(texts) is None:
        raise UserError(f"the request: missing key '{texts}'")
    return {name: value for name, value in record.columns.items() if name in known and value is not None}


def _is_whole(value: Any) -> bool:
    """Whether a number is whole, which JSON may write as 1.0."""
    return isinstance(value, float) and value.is_integer()


def _same(value: Any, other: Any) -> bool:
    """Whether two values are the same JSON, where true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _several(values: dict[str, Any], name: str, max_rows: int) -> list[Any]:
    """Removes the texts of a request, a single one or a list, from ``values`` and returns them."""
    given = values.pop(name)
    inputs = given if isinstance(given, list) else [given]
    if not 1 <= len(inputs) <= max_rows:
        raise UserError(f"the request: {name} has {len(inputs)} texts; it must have from 1 to {max_rows}")
    return inputs
