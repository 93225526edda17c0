"""One client's connection: who is slow is dropped in time, who has half closed it is answered."""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mpt.serve.refusal import Refusal

PROBE = 1  # seconds between two looks at whether a client is still there
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
UNSENT = (h11.IDLE, h11.SEND_RESPONSE)  # the states in which a response can begin


class Connection(H11Protocol):
    """HTTP/1.1 over one connection, with time limits for its client.

    Args:
        patience: seconds in which the head of a request must arrive, and in which an answer must be read.
    """

    def __init__(self, *arguments, patience: float, **options):
        super().__init__(*arguments, **options)
        self._patience = patience
        self._head: asyncio.TimerHandle | None = None  # runs while the head of a request is awaited
        self._unread: asyncio.TimerHandle | None = None  # runs while the client does not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # data that the client does not read is noticed
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head = _stopped(self._head)
        self._unread = _stopped(self._unread)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps the connection of a client that has sent a whole request and waits for its answer."""
        waits = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        if waits:
            self.cycle.keep_alive = False
            self._probe()
        return waits

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(self._patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread = _stopped(self._unread)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, unless an answer has begun, and closes the connection."""
        if self.conn.our_state in UNSENT:
            body = json.dumps(Refusal(400, "invalid_request_error", msg).body()).encode()
            headers = [("Content-Type", "application/json"), ("Connection", "close")]
            response = h11.Response(status_code=400, headers=[*headers, ("Content-Length", str(len(body)))])
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _await_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._head = self._head or self.loop.call_later(self._patience, self.transport.abort)
        else:
            self._head = _stopped(self._head)

    def _probe(self) -> None:
        """Finds out whether a client that sends no more is still there.

        A socket that is closed answers any byte with a reset, and its rows are dropped; a client that waits
        passes over this interim response, which HTTP/1.0 does not know.
        """
        if self.cycle.response_started or self.transport.is_closing():
            return
        if self.cycle.scope["http_version"] != "1.0":
            self.transport.write(CONTINUE)
        self.loop.call_later(PROBE, self._probe)


def _stopped(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
