"""From the worker thread to a request: the answers to its rows, while they grow and when they are whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from mpt.serve.batcher import Batcher, Closed, Full
from mpt.serve.engine import Request
from mpt.serve.refusal import RETRY, Refusal, not_open
from mpt.serve.text import GeneratedText

Answers = AsyncGenerator[tuple[int, Any], None]  # the index of a row, and its answer so far


class Inbox:
    """The events of one request's rows, in their order."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._open = True

    def tell(self, index: int, answer: Any) -> bool:
        """Tells an answer, or why there is none, from any thread; returns whether anybody still listens."""
        if self._open and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.put_nowait, (index, answer))
        return self._open

    def expect(self, index: int, future: Future[Any]) -> None:
        """Tells a future's result when it is there."""

        def told(done: Future[Any]) -> None:
            if not done.cancelled():
                self.tell(index, done.exception() or done.result())

        future.add_done_callback(told)

    def hang_up(self) -> None:
        """Tells that the client has gone."""
        self.tell(-1, ClientDisconnect())

    def close(self) -> None:
        """Nothing more is wanted."""
        self._open = False

    async def next(self) -> tuple[int, Any]:
        """The index of a row, and its answer.

        Raises:
            Exception: why there is no answer.
        """
        index, answer = await self._told.get()
        if isinstance(answer, Exception):
            raise answer
        return index, answer


def is_whole(answer: Any) -> bool:
    """Whether no more of an answer follows."""
    return not (isinstance(answer, GeneratedText) and answer.more)


async def growing(
    batcher: Batcher, http_request: HttpRequest, rows: Sequence[Request], timeout: float
) -> Answers:
    """Yields each row's index and its answer whenever it has grown, until all are whole.

    A timeout, or a client that disconnects, drops the rows that are left.

    Raises:
        Refusal: the rows do not fit into the queue, or take longer than ``timeout`` seconds.
        ClientDisconnect: the client has gone.
    """
    inbox = Inbox()
    futures = _put(batcher, [replace(row, listen=partial(inbox.tell, i)) for i, row in enumerate(rows)])
    for i, future in enumerate(futures):
        inbox.expect(i, future)
    disconnected = asyncio.ensure_future(_disconnected(http_request, inbox))
    deadline = asyncio.get_running_loop().time() + timeout
    waiting = set(range(len(rows)))
    try:
        while waiting:
            async with asyncio.timeout_at(deadline):
                index, answer = await inbox.next()
            if index in waiting:
                waiting -= {index} if is_whole(answer) else set()
                yield index, answer
    except TimeoutError:
        raise Refusal(503, "server_error", "it took too long; try again later", "timeout", RETRY) from None
    finally:
        inbox.close()
        disconnected.cancel()
        for future in futures:
            future.cancel()


async def whole(answers: Answers) -> list[Any]:
    """The whole answer to each row."""
    found = {}
    async with contextlib.aclosing(answers):
        async for index, answer in answers:
            found[index] = answer
    return [found[index] for index in sorted(found)]


async def begun(answers: Answers) -> Answers:
    """The same answers, of which the first is there."""
    first = await anext(answers)

    async def all_of_them() -> Answers:
        async with contextlib.aclosing(answers):
            yield first
            async for answer in answers:
                yield answer

    return all_of_them()


def _put(batcher: Batcher, rows: Sequence[Request]) -> list[Future[Any]]:
    try:
        return batcher.put(rows)
    except Full:
        raise Refusal(
            429, "rate_limit_error", "the queue is full; try again later", "queue_full", RETRY
        ) from None
    except Closed:
        raise not_open() from None


async def _disconnected(http_request: HttpRequest, inbox: Inbox) -> None:
    """Tells when the client closes the connection; its body must have been read before."""
    while (await http_request.receive())["type"] != "http.disconnect":
        pass
    inbox.hang_up()
