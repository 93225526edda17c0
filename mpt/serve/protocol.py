"""The JSON bodies of requests, answers and errors."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpt.config.yaml_file import from_plain
from mpt.data.files import ENCODING, parse_line, unreadable
from mpt.data.records import Fault
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.inference.evaluate import LONGEST_TEXT
from mpt.inference.predict import classified
from mpt.serve.engine import ClassProbabilities, GeneratedText, TextSampling

SEEDS = 2**31  # a seed is an int32

# Fields of OpenAI's API that are not supported, with the value at which they have no effect.
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
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status.
        kind: OpenAI's type of the error.
        code: OpenAI's code of the error, if there is one.
        retry: seconds after which the same request may succeed; None if it will not.
    """

    def __init__(
        self, status: int, kind: str, message: str, code: str | None = None, retry: int | None = None
    ):
        super().__init__(message)
        self.status, self.kind, self.code, self.retry = status, kind, code, retry

    def body(self) -> dict[str, Any]:
        """The JSON body, in the form of OpenAI's errors."""
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": self.code}}


@dataclass(frozen=True)
class Completion:
    """A request to generate, without its texts.

    Attributes:
        model: the name of the task.
        max_tokens: maximum number of tokens to generate.
        seed: the seed of the first text; the i-th text uses seed + i.
        temperature: 0 takes the likeliest token at each step, as `mpt predict` does; above 0, tokens are
            drawn.
        top_p: tokens are drawn from the smallest set that has at least this probability.
        stop: texts before which the answer is cut.
        user: a name of the client, which is ignored.
    """

    model: str
    max_tokens: int
    seed: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    user: str = ""

    def sampling(self, count: int) -> list[TextSampling]:
        """The sampling parameters of each text; the i-th text uses seed + i."""
        return [
            TextSampling(self.temperature, self.top_p, (self.seed + i) % SEEDS, self.max_tokens)
            for i in range(count)
        ]


@dataclass(frozen=True)
class Classification:
    """A request to classify, without its texts.

    Attributes:
        task: the name of the task.
    """

    task: str


def read_completion(body: bytes, max_rows: int, max_tokens: int) -> tuple[Completion, list[Any]]:
    """Reads a request to generate, and its texts.

    Raises:
        UserError: the body is invalid, or uses a feature that is not supported.
    """
    values = _values(body)
    for name, neutral in UNSUPPORTED.items():
        if values.pop(name, neutral) != neutral:
            raise UserError(f"'{name}' is not supported; leave it out")
    prompts = _inputs(values, "prompt", max_rows)
    if isinstance(values.get("stop"), str):
        values["stop"] = [values["stop"]]
    defaults = {"max_tokens": min(LONGEST_TEXT, max_tokens), "seed": secrets.randbelow(SEEDS)}
    request = from_plain(Completion, defaults | values, "the request")
    for name, good, range_ in (
        ("max_tokens", 1 <= request.max_tokens <= max_tokens, f"from 1 to {max_tokens}"),
        ("temperature", 0 <= request.temperature <= 2, "from 0 to 2"),
        ("top_p", 0 < request.top_p <= 1, "above 0 and at most 1"),
        ("seed", 0 <= request.seed < SEEDS, f"from 0 to {SEEDS - 1}"),
        ("stop", len(request.stop) <= 4 and all(request.stop), "up to four texts, none empty"),
    ):
        if not good:
            raise UserError(f"{name} must be {range_}")
    return request, prompts


def read_classification(body: bytes, max_rows: int) -> tuple[Classification, list[Any]]:
    """Reads a request to classify, and its texts.

    Raises:
        UserError: the body is invalid.
    """
    values = _values(body)
    inputs = _inputs(values, "inputs", max_rows)
    return from_plain(Classification, values, "the request"), inputs


def completion(request: Completion, texts: Sequence[GeneratedText]) -> dict[str, Any]:
    """The JSON answer to a request to generate."""
    choices = []
    for i, text in enumerate(texts):
        stops = [index for word in request.stop if (index := text.text.find(word)) >= 0]
        cut = text.text[: min(stops)] if stops else text.text
        reason = "stop" if stops or text.ended else "length"
        choices.append({"index": i, "text": cut.strip(), "logprobs": None, "finish_reason": reason})
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": choices,
        "usage": usage(texts),
    }


def classification(task: Task, rows: Sequence[ClassProbabilities]) -> dict[str, Any]:
    """The JSON answer to a request to classify."""
    return {
        "task": task.name,
        "results": [classified(task, row.probabilities) for row in rows],
        "usage": usage(rows),
    }


def usage(answers: Sequence[GeneratedText | ClassProbabilities]) -> dict[str, int]:
    """Numbers of tokens read and written, summed over the answers, under OpenAI's names."""
    read = sum(answer.tokens_read for answer in answers)
    written = sum(answer.tokens_written for answer in answers if isinstance(answer, GeneratedText))
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _values(body: bytes) -> dict[str, Any]:
    """The fields of a body; a field that is null counts as left out."""
    text = body.decode(ENCODING, errors="surrogateescape")
    record = unreadable("the request", text) or parse_line("the request", text)
    if isinstance(record, Fault):
        raise record
    return {name: value for name, value in record.columns.items() if value is not None}


def _inputs(values: dict[str, Any], name: str, max_rows: int) -> list[Any]:
    """Removes the texts of a request, a single one or a list, from ``values`` and returns them."""
    if name not in values:
        raise UserError(f"the request: missing key '{name}'")
    given = values.pop(name)
    inputs = given if isinstance(given, list) else [given]
    if not 1 <= len(inputs) <= max_rows:
        raise UserError(f"the request: {name} has {len(inputs)} texts; it must have from 1 to {max_rows}")
    return inputs
