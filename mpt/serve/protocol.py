"""What clients say and are told: bodies of requests, of answers, and of refusals."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpt.config.yaml_file import from_plain
from mpt.data.files import parse_line
from mpt.data.records import Fault
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.inference.evaluate import LONGEST_TEXT
from mpt.inference.predict import classified
from mpt.serve.engine import Chosen, Text, Wish

SEEDS = 2**31  # a seed is an int32

# Fields of OpenAI's that are not supported, and the value at which they ask for nothing.
UNSUPPORTED: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "stream": False,
    "stream_options": None,
    "echo": False,
    "logprobs": None,
    "suffix": None,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
}


class Refusal(Exception):
    """An answer that is an error.

    Attributes:
        retry: seconds after which the same request may succeed; None where it will not.
    """

    def __init__(
        self, status: int, kind: str, message: str, code: str | None = None, retry: int | None = None
    ):
        super().__init__(message)
        self.status, self.kind, self.code, self.retry = status, kind, code, retry

    def body(self) -> dict[str, Any]:
        """In the shape of OpenAI's errors."""
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": self.code}}


@dataclass(frozen=True)
class Completion:
    """A request to write, without its texts.

    Attributes:
        model: the task's name.
        temperature: 0 for the likeliest tokens, as `mpt predict` writes; above it they are drawn.
        stop: texts before which the answer is cut.
        user: who asks; not used.
    """

    model: str
    max_tokens: int
    seed: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    user: str = ""

    def wishes(self, count: int) -> list[Wish]:
        """One for each text; the i-th draws from seed + i."""
        return [
            Wish(self.temperature, self.top_p, (self.seed + i) % SEEDS, self.max_tokens) for i in range(count)
        ]


@dataclass(frozen=True)
class Classification:
    """A request to classify, without its texts.

    Attributes:
        task: the task's name.
    """

    task: str


def read_completion(body: bytes, most_rows: int, most_tokens: int) -> tuple[Completion, list[Any]]:
    """A request to write, and its texts.

    Raises:
        UserError: it is none, or asks for what is not offered.
    """
    values = _values(body)
    for name, nothing in UNSUPPORTED.items():
        if values.pop(name, nothing) != nothing:
            raise UserError(f"'{name}' is not supported; leave it out")
    prompts = _inputs(values, "prompt", most_rows)
    if isinstance(values.get("stop"), str):
        values["stop"] = [values["stop"]]
    defaults = {"max_tokens": min(LONGEST_TEXT, most_tokens), "seed": secrets.randbelow(SEEDS)}
    asked = from_plain(Completion, defaults | values, "the request")
    for name, good, range_ in (
        ("max_tokens", 1 <= asked.max_tokens <= most_tokens, f"from 1 to {most_tokens}"),
        ("temperature", 0 <= asked.temperature <= 2, "from 0 to 2"),
        ("top_p", 0 < asked.top_p <= 1, "above 0 and at most 1"),
        ("seed", 0 <= asked.seed < SEEDS, f"from 0 to {SEEDS - 1}"),
        ("stop", len(asked.stop) <= 4 and all(asked.stop), "up to four texts, none empty"),
    ):
        if not good:
            raise UserError(f"{name} must be {range_}")
    return asked, prompts


def read_classification(body: bytes, most_rows: int) -> tuple[Classification, list[Any]]:
    """A request to classify, and its texts.

    Raises:
        UserError: it is none.
    """
    values = _values(body)
    inputs = _inputs(values, "inputs", most_rows)
    return from_plain(Classification, values, "the request"), inputs


def completion(asked: Completion, texts: Sequence[Text]) -> dict[str, Any]:
    """The answer to a request to write."""
    choices = []
    for i, text in enumerate(texts):
        places = [place for word in asked.stop if (place := text.text.find(word)) >= 0]
        cut = text.text[: min(places)] if places else text.text
        reason = "stop" if places or text.ended else "length"
        choices.append({"index": i, "text": cut.strip(), "logprobs": None, "finish_reason": reason})
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": choices,
        "usage": usage(texts),
    }


def classification(task: Task, rows: Sequence[Chosen]) -> dict[str, Any]:
    """The answer to a request to classify."""
    return {
        "task": task.name,
        "results": [classified(task, row.shares) for row in rows],
        "usage": usage(rows),
    }


def usage(answers: Sequence[Text | Chosen]) -> dict[str, int]:
    read = sum(answer.read for answer in answers)
    wrote = sum(answer.wrote for answer in answers if isinstance(answer, Text))
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


def _values(body: bytes) -> dict[str, Any]:
    """The fields of a body; a field that is null is as good as left out."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise UserError("the request: not UTF-8") from None
    record = parse_line("the request", text)
    if isinstance(record, Fault):
        raise record
    return {name: value for name, value in record.columns.items() if value is not None}


def _inputs(values: dict[str, Any], name: str, most: int) -> list[Any]:
    """The texts of a request, taken out of ``values``: one, or a list of them."""
    if name not in values:
        raise UserError(f"the request: missing key '{name}'")
    given = values.pop(name)
    inputs = given if isinstance(given, list) else [given]
    if not 1 <= len(inputs) <= most:
        raise UserError(f"the request: {name} has {len(inputs)} texts; it must have from 1 to {most}")
    return inputs
