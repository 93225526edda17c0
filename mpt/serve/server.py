"""Starts the server, and stops it without losing a request that it has accepted."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Sequence
from functools import partial
from types import FrameType

import uvicorn

from mpt.errors import UserError, first_line, tell, warn
from mpt.serve.app import Service
from mpt.serve.connection import Connection
from mpt.serve.engine import Engine
from mpt.serve.options import TOKEN, ServeOptions
from mpt.system.paths import AnyPath


class Server(uvicorn.Server):
    """A server that, when told to stop, refuses new requests (503) and answers those it has accepted.

    While it warms up it has accepted none, and ends at once: a compilation cannot be interrupted.
    """

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service, self._stopping, self._announced = service, False, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping:  # a second signal stops at once
            super().handle_exit(sig, frame)
        elif not self._service.batcher.ready:
            os._exit(128 + sig)
        self._stopping = True

    async def on_tick(self, counter: int) -> bool:
        batcher = self._service.batcher
        if batcher.ready and not self._announced:
            self._announced = True
            tell("ready")
        if self._stopping:
            batcher.close()
        return await super().on_tick(counter) or batcher.finished


def server_of(service: Service, options: ServeOptions) -> Server:
    """The server of a service; it does not run yet."""
    config = uvicorn.Config(
        service.app(),
        http=partial(Connection, patience=options.timeout),  # type: ignore[arg-type]
        loop="asyncio",  # whatever else is installed
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        # Accepted requests end within their time limit; a client that does not read is not waited for.
        timeout_graceful_shutdown=math.ceil(options.timeout),
    )
    return Server(config, service)


def serve(runs: Sequence[AnyPath], options: ServeOptions) -> None:
    """Serves the prompts of runs until the process is told to stop.

    Raises:
        UserError: the runs cannot share a server, or the address is not available.
    """
    token = options.token()
    if not options.local and not token:
        warn(
            f"{options.host}: everyone who can reach this address can send requests; "
            f"set {TOKEN} or --token-file"
        )
    with _listening(options) as listener:
        engine = Engine(runs, options.max_batch, options.max_tokens)
        service = Service(engine, options, token)
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{host}:{listener.getsockname()[1]}"
        tell(f"{', '.join(engine.tasks)} at {address}; warming up")
        server_of(service, options).run([listener])
    if failure := service.batcher.failure:
        raise UserError(f"the server could not start: {first_line(failure)}")


def _listening(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        raise UserError(
            f"cannot listen on {options.host} port {options.port}: {error.strerror or error}; "
            "give another --host or --port"
        ) from None
