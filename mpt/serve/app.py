"""The HTTP side of the server: routes, authentication, limits on requests, and error responses."""

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
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mpt.errors import UserError
from mpt.serve import protocol
from mpt.serve.batcher import Batcher, Closed, Full
from mpt.serve.engine import Engine, Request, ServedTask
from mpt.serve.metrics import Metrics
from mpt.serve.options import ServeOptions
from mpt.serve.protocol import Refusal

log = logging.getLogger("mpt.serve")

RETRY = 1  # seconds until a retry; a full queue has mostly emptied by then
RETRY_START = 5  # seconds until a retry while the server starts or stops
DISCONNECTED = 499  # a status for the metrics alone, as the client does not read it

Handler = Callable[[HttpRequest], Awaitable[Response]]


class Service:
    """The HTTP routes of one engine.

    Args:
        engine: answers batches of requests.
        options: the limits on requests and batches.
        token: the bearer token that clients must send; if empty, none is needed.
    """

    def __init__(self, engine: Engine, options: ServeOptions, token: str = ""):
        self.engine, self.options, self._token = engine, options, token
        self.metrics = Metrics(waiting=lambda: len(self.batcher))
        self.batcher = Batcher(
            engine.answer,
            max_batch=options.max_batch,
            wait=options.wait_ms / 1000,
            capacity=options.queue,
            prepare=engine.warm,
            on_batch=self.metrics.batch,
        )
        self._started = int(time.time())

    def app(self) -> Starlette:
        """The ASGI application, which starts the batcher's worker thread and waits for it on shutdown."""

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
            self._route("/metrics", self._scrape, "GET"),
            self._route("/health/live", self._live, "GET", protected=False),
            self._route("/health/ready", self._ready, "GET", protected=False),
        ]
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_route})

    def _route(self, path: str, handler: Handler, method: str, protected: bool = True) -> Route:
        """A route that counts requests and turns errors into responses; ``protected`` requires the token."""

        async def answered(http_request: HttpRequest) -> Response:
            began = time.monotonic()
            try:
                if protected:
                    self._admit(http_request)
                response = await handler(http_request)
            except Refusal as refusal:
                response = _refused(refusal)
            except UserError as error:
                response = _refused(Refusal(400, "invalid_request_error", str(error)))
            except ClientDisconnect:
                response = Response(status_code=DISCONNECTED)
            except Exception:  # details go to the server's log, not to the client
                log.exception("%s failed", path)
                response = _refused(Refusal(500, "server_error", "the server failed; its log says why"))
            self.metrics.request(path, response.status_code, time.monotonic() - began)
            return response

        return Route(path, answered, methods=[method])

    def _admit(self, http_request: HttpRequest) -> None:
        shown = http_request.headers.get("authorization", "").encode("latin-1")
        if self._token and not hmac.compare_digest(shown, b"Bearer " + self._token.encode()):
            raise Refusal(401, "authentication_error", "show the bearer token", "invalid_api_key")

    async def _complete(self, http_request: HttpRequest) -> Response:
        body, options = await self._body(http_request), self.options
        completion, prompts = protocol.read_completion(body, options.max_rows, options.max_tokens)
        served = self._find(completion.model)
        records = served.ready.task.records("prompt", prompts)
        sampling = completion.sampling(len(records))
        rows = [Request(served, served.ready.unlabelled(record), s) for record, s in zip(records, sampling)]
        return self._respond(protocol.completion(completion, await self._answers(http_request, rows)))

    async def _classify(self, http_request: HttpRequest) -> Response:
        body = await self._body(http_request)
        request, inputs = protocol.read_classification(body, self.options.max_rows)
        served = self._find(request.task)
        task = served.ready.task
        if not task.choices:
            raise UserError(f"task '{task.name}' has no classes; ask /v1/completions")
        rows = [Request(served, served.ready.unlabelled(record)) for record in task.records("inputs", inputs)]
        return self._respond(protocol.classification(task, await self._answers(http_request, rows)))

    async def _models(self, _: HttpRequest) -> Response:
        models = [
            {"id": name, "object": "model", "created": self._started, "owned_by": "mpt"}
            for name in self.engine.tasks
        ]
        return JSONResponse({"object": "list", "data": models})

    async def _scrape(self, _: HttpRequest) -> Response:
        return Response(self.metrics.text(), media_type=self.metrics.content_type)

    async def _live(self, _: HttpRequest) -> Response:
        return JSONResponse({"status": "live"})

    async def _ready(self, _: HttpRequest) -> Response:
        if not self.batcher.ready:
            raise _not_open()
        return JSONResponse({"status": "ready"})

    def _find(self, task: str) -> ServedTask:
        try:
            return self.engine.find(task)
        except UserError as error:
            raise Refusal(404, "invalid_request_error", str(error), "model_not_found") from None

    def _respond(self, answer: dict[str, Any]) -> Response:
        """The response with an answer, whose tokens are counted."""
        usage = answer["usage"]
        self.metrics.tokens(usage["prompt_tokens"], usage["completion_tokens"])
        return JSONResponse(answer)

    async def _body(self, http_request: HttpRequest) -> bytes:
        """Reads the body of a request, which must be JSON, not too long, and arrive in time."""
        # Browsers let any web page send other content types; for JSON they first ask this server, which
        # refuses.
        if (
            http_request.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/json"
        ):
            raise Refusal(415, "invalid_request_error", "send Content-Type: application/json")
        limit, body = self.options.max_bytes, bytearray()
        too_long = Refusal(413, "invalid_request_error", f"a request has at most {limit} bytes")
        if int(http_request.headers.get("content-length", 0)) > limit:
            raise too_long
        try:
            async with asyncio.timeout(self.options.timeout):
                async for chunk in http_request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise too_long
        except TimeoutError:
            raise Refusal(408, "invalid_request_error", "the request did not come in time") from None
        return bytes(body)

    async def _answers(self, http_request: HttpRequest, rows: list[Request]) -> list[Any]:
        """Waits for the rows' answers; a timeout or a client that disconnects cancels the rest."""
        try:
            futures = self.batcher.put(rows)
        except Full:
            raise Refusal(429, "rate_limit_error", "too many wait; come again", "queue_full", RETRY) from None
        except Closed:
            raise _not_open() from None
        answers = asyncio.gather(*map(asyncio.wrap_future, futures))
        disconnected = asyncio.ensure_future(_disconnected(http_request))
        try:
            both = {answers, disconnected}
            await asyncio.wait(both, timeout=self.options.timeout, return_when="FIRST_COMPLETED")
            if answers.done():
                return answers.result()
            if disconnected.done():
                raise ClientDisconnect
            raise Refusal(503, "server_error", "it took too long; come again", "timeout", RETRY)
        finally:
            answers.cancel()
            disconnected.cancel()
            for future in futures:
                future.cancel()


async def _disconnected(http_request: HttpRequest) -> None:
    """Returns when the client closes the connection; its body must have been read before."""
    while (await http_request.receive())["type"] != "http.disconnect":
        pass


def _not_open() -> Refusal:
    return Refusal(503, "server_error", "the server is starting or stopping", "not_ready", RETRY_START)


def _refused(refusal: Refusal) -> Response:
    headers = {} if refusal.retry is None else {"Retry-After": str(refusal.retry)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(refusal.body(), refusal.status, headers)


async def _no_route(http_request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{http_request.method} {http_request.url.path}: {error.detail}"
    return JSONResponse(
        Refusal(error.status_code, "invalid_request_error", message).body(), error.status_code, error.headers
    )
