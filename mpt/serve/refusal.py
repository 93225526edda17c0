"""Why a request is not answered: an HTTP status, and a body in the form of OpenAI's errors."""

from __future__ import annotations

from typing import Any

RETRY = 1  # seconds until a retry; a full queue has mostly emptied by then
RETRY_START = 5  # seconds until a retry while the server starts or stops
DISCONNECTED = 499  # a status for the metrics alone, as the client does not read it


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
        """The JSON body."""
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": self.code}}


def not_open() -> Refusal:
    """Of a server that takes no requests yet, or no more."""
    return Refusal(503, "server_error", "the server is starting or stopping", "not_ready", RETRY_START)
