"""Answers in the form of OpenAI's: JSON bodies, and the server-sent events of an answer that grows."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mpt.data.task import Task
from mpt.inference.predict import classified
from mpt.serve.engine import ClassProbabilities
from mpt.serve.refusal import DISCONNECTED, Refusal
from mpt.serve.text import HALF, GeneratedText, Token

NOTHING = GeneratedText("", False, 0, 0, more=True)


class Reply:
    """The bodies that answer one request to generate.

    Args:
        model: the name of the task.
        chat: whether they are those of chat completions.
        scored: whether the tokens' log probabilities are returned.
    """

    def __init__(self, model: str, chat: bool, scored: bool):
        self._chat, self._scored = chat, scored
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, texts: Sequence[GeneratedText]) -> dict[str, Any]:
        """The whole answer."""
        choices = [self._choice(i, NOTHING, text, "message") for i, text in enumerate(texts)]
        return self._head | {"choices": choices, "usage": usage(texts)}

    def event(self, index: int, before: GeneratedText, text: GeneratedText) -> dict[str, Any]:
        """The event with what a text has grown by, or with its end."""
        return self._event(choices=[self._choice(index, before, text, "delta")])

    def last_event(self, texts: Sequence[GeneratedText]) -> dict[str, Any]:
        """The event that counts the tokens."""
        return self._event(choices=[], usage=usage(texts))

    def _event(self, **body: Any) -> dict[str, Any]:
        return self._head | {"object": "chat.completion.chunk" if self._chat else "text_completion"} | body

    def _choice(self, index: int, before: GeneratedText, text: GeneratedText, name: str) -> dict[str, Any]:
        told = shown(text)[len(shown(before)) :]
        tokens = text.tokens[len(before.tokens) :]
        scores = (_chat_scores if self._chat else _scores)(tokens, _margin(text)) if self._scored else None
        # The role is sent once.
        said = {"content": told} if before.text else {"role": "assistant", "content": told}
        return {
            "index": index,
            **({name: said} if self._chat else {"text": told}),
            "logprobs": scores,
            "finish_reason": None if text.more else "stop" if text.ended else "length",
        }


def shown(text: GeneratedText) -> str:
    """A text without the blanks that it begins with, as in `mpt predict`."""
    return text.text[_margin(text) :]


def _margin(text: GeneratedText) -> int:
    return len(text.text) - len(text.text.lstrip())


def _scores(tokens: Sequence[Token], margin: int) -> dict[str, Any]:
    """Log probabilities in the form of completions."""
    likeliest = [dict(token.likeliest) | {token.text: token.score} for token in tokens]
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.score for token in tokens],
        "top_logprobs": likeliest,
        "text_offset": [max(token.start - margin, 0) for token in tokens],
    }


def _chat_scores(tokens: Sequence[Token], _: int) -> dict[str, Any]:
    """Log probabilities in the form of chat completions."""
    return {
        "content": [
            _scored(token.text, token.score)
            | {"top_logprobs": [_scored(*other) for other in token.likeliest]}
            for token in tokens
        ],
        "refusal": None,
    }


def _scored(text: str, score: float) -> dict[str, Any]:
    return {"token": text, "logprob": score, "bytes": None if text == HALF else list(text.encode())}


def classification(task: Task, rows: Sequence[ClassProbabilities]) -> dict[str, Any]:
    """The answer to a request to classify."""
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


class EventStream(StreamingResponse):
    """Sends each event as a line of JSON, and [DONE] after the last one.

    Args:
        events: the events.
        refusal: turns a failure during the stream into the refusal that is sent as the last event.

    Attributes:
        on_end: is called at the end with the status that the answer would have had as a whole.
    """

    def __init__(self, events: AsyncIterator[dict[str, Any]], refusal: Callable[[Exception], Refusal]):
        self._events, self._refusal = events, refusal
        self.on_end: Callable[[int], object] = lambda status: None
        super().__init__(self._lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)  # whoever makes the events sees that a client has gone

    async def _lines(self) -> AsyncIterator[str]:
        status = self.status_code
        try:
            async for event in self._events:
                yield _line(event)
            yield "data: [DONE]\n\n"
        except ClientDisconnect:
            status = DISCONNECTED
        except Exception as error:
            refusal = self._refusal(error)
            status = refusal.status
            yield _line(refusal.body())
        finally:
            self.on_end(status)


def _line(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, allow_nan=False)}\n\n"
