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

from mpt.errors import UserError, nearest
from mpt.serve.answers import NOTHING, EventStream, Reply, classification, shown
from mpt.serve.batcher import Batcher
from mpt.serve.chat import answer_ends, row_of, turn_ends
from mpt.serve.description import openapi
from mpt.serve.engine import Engine, Request, ServedTask
from mpt.serve.inbox import Answers, begun, growing, is_whole, whole
from mpt.serve.metrics import Metrics
from mpt.serve.options import ServeOptions
from mpt.serve.refusal import DISCONNECTED, Refusal, not_open
from mpt.serve.requests import Generation, read_chat, read_classification, read_completion

log = logging.getLogger("mpt.serve")

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
            self._route("/v1/chat/completions", self._chat, "POST"),
            self._route("/v1/classify", self._classify, "POST"),
            self._route("/v1/models", self._models, "GET"),
            self._route("/openapi.json", self._describe, "GET"),
            self._route("/metrics", self._scrape, "GET"),
            self._route("/health/live", self._live, "GET", protected=False),
            self._route("/health/ready", self._ready, "GET", protected=False),
        ]
        app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_route})
        app.router.redirect_slashes = False  # a wrong path is an error, like every other mistake
        return app

    def _route(self, path: str, handler: Handler, method: str, protected: bool = True) -> Route:
        """A route that counts requests and turns errors into responses; ``protected`` requires the token."""

        async def answered(http_request: HttpRequest) -> Response:
            began = time.monotonic()
            try:
                if protected:
                    self._admit(http_request)
                response = await handler(http_request)
            except ClientDisconnect:
                response = Response(status_code=DISCONNECTED)
            except Exception as error:
                response = _refused(_refusal(error))

            def count(status: int) -> None:
                self.metrics.request(path, status, time.monotonic() - began)

            if isinstance(response, EventStream):
                response.on_end = count
            else:
                count(response.status_code)
            return response

        return Route(path, answered, methods=[method])

    def _admit(self, http_request: HttpRequest) -> None:
        shown = http_request.headers.get("authorization", "").encode("latin-1")
        if self._token and not hmac.compare_digest(shown, b"Bearer " + self._token.encode()):
            raise Refusal(401, "authentication_error", "show the bearer token", "invalid_api_key")

    async def _complete(self, http_request: HttpRequest) -> Response:
        body, options = await self._body(http_request), self.options
        completion, prompts = read_completion(body, options.max_rows, options.max_tokens)
        served = self._find(completion.model)
        ends = answer_ends(served.ready)
        rows = [
            Request(served, served.ready.unlabelled(record), completion.sampling(i, ends))
            for i, record in enumerate(served.ready.task.records("prompt", prompts))
        ]
        return await self._reply(http_request, completion, rows, chat=False)

    async def _chat(self, http_request: HttpRequest) -> Response:
        chat, messages = read_chat(await self._body(http_request), self.options.max_tokens)
        served = self._find(chat.model)
        row = row_of(messages, served.ready)
        sampling = chat.sampling(ends=turn_ends(served.ready))
        return await self._reply(http_request, chat, [Request(served, row, sampling)], chat=True)

    async def _reply(
        self, http_request: HttpRequest, asked: Generation, rows: list[Request], chat: bool
    ) -> Response:
        """The response to a request to generate, whole or as it grows."""
        reply = Reply(asked.model, chat, asked.likeliest is not None)
        if not asked.stream:
            return self._respond(reply.whole(await whole(self._growing(http_request, rows))))
        answers = await begun(self._growing(http_request, rows))  # what is refused at once has its status

        async def events() -> AsyncIterator[dict[str, Any]]:
            texts = [NOTHING] * len(rows)
            async with contextlib.aclosing(answers):
                async for index, text in answers:
                    if is_whole(text) or shown(text) != shown(texts[index]):
                        yield reply.event(index, texts[index], text)
                        texts[index] = text
            last = reply.last_event(texts)
            self._count(last)
            if asked.stream_options.include_usage:
                yield last

        return EventStream(events(), _refusal)

    async def _classify(self, http_request: HttpRequest) -> Response:
        body = await self._body(http_request)
        request, inputs = read_classification(body, self.options.max_rows)
        served = self._find(request.task)
        task = served.ready.task
        if not task.choices:
            raise UserError(f"task '{task.name}' has no classes; use /v1/completions")
        rows = [Request(served, served.ready.unlabelled(record)) for record in task.records("inputs", inputs)]
        return self._respond(classification(task, await whole(self._growing(http_request, rows))))

    async def _describe(self, _: HttpRequest) -> Response:
        tasks = [served.ready.task for served in self.engine.tasks.values()]
        chat = bool(self.engine.pretrained.tokenizer.chat_template)
        return JSONResponse(openapi(tasks, self.options, chat, bool(self._token)))

    def _growing(self, http_request: HttpRequest, rows: list[Request]) -> Answers:
        return growing(self.batcher, http_request, rows, self.options.timeout)

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
            raise not_open()
        return JSONResponse({"status": "ready"})

    def _find(self, task: str) -> ServedTask:
        try:
            return self.engine.find(task)
        except UserError as error:
            raise Refusal(404, "invalid_request_error", str(error), "model_not_found") from None

    def _respond(self, answer: dict[str, Any]) -> Response:
        self._count(answer)
        return JSONResponse(answer)

    def _count(self, answer: dict[str, Any]) -> None:
        """Counts the tokens of an answer."""
        self.metrics.tokens(answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])

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
        length = http_request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_long
        try:
            async with asyncio.timeout(self.options.timeout):
                async for chunk in http_request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise too_long
        except TimeoutError:
            raise Refusal(408, "invalid_request_error", "the request did not arrive in time") from None
        return bytes(body)


def _refusal(error: Exception) -> Refusal:
    """The error that a client gets; details of the server go only to its log."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UserError):
        return Refusal(400, "invalid_request_error", str(error))
    log.error("a request failed", exc_info=error)
    return Refusal(500, "server_error", "the server failed; its log says why")


def _refused(refusal: Refusal) -> Response:
    headers = {} if refusal.retry is None else {"Retry-After": str(refusal.retry)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(refusal.body(), refusal.status, headers)


async def _no_route(http_request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, allowed = http_request.url.path, (error.headers or {}).get("Allow", "")
    if allowed:
        message = f"{path} takes {' or '.join(sorted(allowed.split(', ')))}, not {http_request.method}"
    else:
        message = f"no path {path}; {nearest(path, [route.path for route in http_request.app.routes])}"
    return JSONResponse(
        Refusal(error.status_code, "invalid_request_error", message).body(), error.status_code, error.headers
    )
