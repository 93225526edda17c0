"""The HTTP side: routes, who may ask, how much, and what a refusal looks like."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mpt.errors import UserError
from mpt.serve import protocol
from mpt.serve.batcher import Batcher, Closed, Full
from mpt.serve.engine import Engine, Place, Request
from mpt.serve.metrics import Metrics
from mpt.serve.options import ServeOptions
from mpt.serve.protocol import Refusal

log = logging.getLogger("mpt.serve")

RETRY = 1  # seconds: a full queue is mostly worked off by then
RETRY_START = 5  # seconds: of a server that starts or stops
GONE = 499  # nobody reads it; the metrics tell of it

Handler = Callable[[Asked], Awaitable[Response]]


class Service:
    """The routes over one engine.

    Args:
        engine: answers batches.
        options: the limits.
        token: what clients must show; nothing where all may ask.
    """

    def __init__(self, engine: Engine, options: ServeOptions, token: str = ""):
        self.engine, self.options, self._token = engine, options, token
        self.metrics = Metrics(waiting=lambda: len(self.batcher))
        self.batcher = Batcher(
            engine.answer,
            most=options.max_batch,
            wait=options.wait_ms / 1000,
            room=options.queue,
            prepare=engine.warm,
            seen=self.metrics.batch,
        )
        self._started = int(time.time())

    def app(self) -> Starlette:
        """The ASGI application; it starts the batches' worker, and at its end waits for it."""

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.batcher.start()
            yield
            self.batcher.close()
            await asyncio.to_thread(self.batcher.join)

        routes = [
            self._route("/v1/completions", self._complete, "POST"),
            self._route("/v1/classify", self._classify, "POST"),
            self._route("/v1/models", self._models, "GET"),
            self._route("/metrics", self._count, "GET"),
            self._route("/health/live", self._live, "GET", closed=False),
            self._route("/health/ready", self._ready, "GET", closed=False),
        ]
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_route})

    def _route(self, path: str, handler: Handler, method: str, closed: bool = True) -> Route:
        """A route that counts, and words every fault; behind the token if ``closed``."""

        async def answered(asked: Asked) -> Response:
            began = time.monotonic()
            try:
                if closed:
                    self._admit(asked)
                response = await handler(asked)
            except Refusal as refusal:
                response = _refused(refusal)
            except UserError as error:
                response = _refused(Refusal(400, "invalid_request_error", str(error)))
            except ClientDisconnect:
                response = Response(status_code=GONE)
            except Exception:  # what went wrong is for the server's log only
                log.exception("%s failed", path)
                response = _refused(Refusal(500, "server_error", "the server failed; its log says why"))
            self.metrics.request(path, response.status_code, time.monotonic() - began)
            return response

        return Route(path, answered, methods=[method])

    def _admit(self, asked: Asked) -> None:
        shown = asked.headers.get("authorization", "").encode("latin-1")
        if self._token and not hmac.compare_digest(shown, b"Bearer " + self._token.encode()):
            raise Refusal(401, "authentication_error", "show the bearer token", "invalid_api_key")

    async def _complete(self, asked: Asked) -> Response:
        body, options = await self._body(asked), self.options
        wanted, prompts = protocol.read_completion(body, options.max_rows, options.max_tokens)
        place = self._find(wanted.model)
        records = place.ready.task.records("prompt", prompts)
        wishes = wanted.wishes(len(records))
        rows = [Request(place, place.ready.unlabelled(record), wish) for record, wish in zip(records, wishes)]
        return self._told(protocol.completion(wanted, await self._answers(asked, rows)))

    async def _classify(self, asked: Asked) -> Response:
        body = await self._body(asked)
        wanted, inputs = protocol.read_classification(body, self.options.max_rows)
        place = self._find(wanted.task)
        task = place.ready.task
        if not task.choices:
            raise UserError(f"task '{task.name}' has no classes; ask /v1/completions")
        rows = [Request(place, place.ready.unlabelled(record)) for record in task.records("inputs", inputs)]
        return self._told(protocol.classification(task, await self._answers(asked, rows)))

    async def _models(self, _: Asked) -> Response:
        models = [
            {"id": name, "object": "model", "created": self._started, "owned_by": "mpt"}
            for name in self.engine.places
        ]
        return JSONResponse({"object": "list", "data": models})

    async def _count(self, _: Asked) -> Response:
        return Response(self.metrics.text(), media_type=self.metrics.content_type)

    async def _live(self, _: Asked) -> Response:
        return JSONResponse({"status": "live"})

    async def _ready(self, _: Asked) -> Response:
        if not self.batcher.ready:
            raise _not_open()
        return JSONResponse({"status": "ready"})

    def _find(self, task: str) -> Place:
        try:
            return self.engine.find(task)
        except UserError as error:
            raise Refusal(404, "invalid_request_error", str(error), "model_not_found") from None

    def _told(self, answer: dict[str, Any]) -> Response:
        usage = answer["usage"]
        self.metrics.tokens(usage["prompt_tokens"], usage["completion_tokens"])
        return JSONResponse(answer)

    async def _body(self, asked: Asked) -> bytes:
        """The body of a request, if it is JSON, not too long, and comes in time."""
        # A web page may send other types to any server; for JSON a browser asks first, in vain.
        if asked.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "invalid_request_error", "send Content-Type: application/json")
        most, body = self.options.max_bytes, bytearray()
        too_long = Refusal(413, "invalid_request_error", f"a request has at most {most} bytes")
        if int(asked.headers.get("content-length", 0)) > most:
            raise too_long
        try:
            async with asyncio.timeout(self.options.timeout):
                async for chunk in asked.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_long
        except TimeoutError:
            raise Refusal(408, "invalid_request_error", "the request did not come in time") from None
        return bytes(body)

    async def _answers(self, asked: Asked, rows: list[Request]) -> list[Any]:
        """The rows' answers. Where time is up or the client has gone, they are no longer worked for."""
        try:
            futures = self.batcher.put(rows)
        except Full:
            raise Refusal(429, "rate_limit_error", "too many wait; come again", "queue_full", RETRY) from None
        except Closed:
            raise _not_open() from None
        answers = asyncio.gather(*map(asyncio.wrap_future, futures))
        gone = asyncio.ensure_future(_gone(asked))
        try:
            await asyncio.wait({answers, gone}, timeout=self.options.timeout, return_when="FIRST_COMPLETED")
            if answers.done():
                return answers.result()
            if gone.done():
                raise ClientDisconnect
            raise Refusal(503, "server_error", "it took too long; come again", "timeout", RETRY)
        finally:
            answers.cancel()
            gone.cancel()
            for future in futures:
                future.cancel()


async def _gone(asked: Asked) -> None:
    """Ends when the client has closed the connection; the body has been read."""
    while (await asked.receive())["type"] != "http.disconnect":
        pass


def _not_open() -> Refusal:
    return Refusal(503, "server_error", "the server is starting or stopping", "not_ready", RETRY_START)


def _refused(refusal: Refusal) -> Response:
    headers = {} if refusal.retry is None else {"Retry-After": str(refusal.retry)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(refusal.body(), refusal.status, headers)


async def _no_route(asked: Asked, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{asked.method} {asked.url.path}: {error.detail}"
    return JSONResponse(
        Refusal(error.status_code, "invalid_request_error", message).body(), error.status_code, error.headers
    )
