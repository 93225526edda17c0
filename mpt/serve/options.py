"""Options of `mpt serve`: the address to listen on, and the limits on requests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpt.config.ranges import Range
from mpt.errors import UserError

TOKEN = "MPT_SERVE_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeOptions:
    """Options of `mpt serve`."""

    host: str = "127.0.0.1"
    """Address to listen on; the default can be reached from this machine only."""
    port: int = 8000
    """Port to listen on; 0 chooses a free one, which is printed."""
    max_batch: int = 16
    """Maximum number of rows in a batch; on a CPU, throughput hardly grows beyond the default."""
    wait_ms: float = 10.0
    """Milliseconds that the first row of a batch waits for others; the default is short compared with the
    time that a batch takes."""
    queue: int = 256
    """Maximum number of rows in the queue; a request that does not fit is told to retry (status 429)."""
    timeout: float = 30.0
    """Maximum number of seconds for a request; after that it is told to retry (status 503)."""
    max_tokens: int = 64
    """Maximum number of tokens in a completion; the default is what `mpt predict` generates."""
    max_rows: int = 64
    """Maximum number of texts in a request, so that a single client does not hold up the others."""
    max_bytes: int = 1_048_576
    """Maximum number of bytes in a request's body; the default allows 64 texts of 16 KB."""
    token_file: Path | None = None
    """File with the bearer token that clients must send. If left out, the token is read from the environment
    variable MPT_SERVE_TOKEN; without one, everybody who reaches the address is served."""

    def __post_init__(self):
        minimum = {"port": 0, "wait_ms": 0, "timeout": 0.001, "queue": self.max_rows}
        for name in (
            "port",
            "max_batch",
            "wait_ms",
            "queue",
            "timeout",
            "max_tokens",
            "max_rows",
            "max_bytes",
        ):
            if not Range(minimum.get(name, 1)).holds(getattr(self, name)):
                option = f"--{name.replace('_', '-')}"
                why = " (--max-rows, or such a request could never be accepted)" if name == "queue" else ""
                raise UserError(
                    f"{option} is {getattr(self, name)}; it must be {minimum.get(name, 1)} or more{why}"
                )
        if self.port > 65535:
            raise UserError(f"--port is {self.port}; ports end at 65535")

    @property
    def local(self) -> bool:
        """Whether the server can be reached from this machine only."""
        return self.host in LOOPBACK

    def token(self, environment: Mapping[str, str] = os.environ) -> str:
        """The bearer token that clients must send; empty if none is set.

        It is never a command-line argument, because `ps` would show it.

        Raises:
            UserError: the file cannot be read, or the token is empty or contains white space.
        """
        if self.token_file:
            where = str(self.token_file)
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"--token-file {where}: cannot be read ({error})") from None
        elif TOKEN in environment:
            where, token = TOKEN, environment[TOKEN].strip()
        else:
            return ""
        if not token or len(token.split()) > 1:
            raise UserError(f"{where}: a token is one word, and this is {'several' if token else 'empty'}")
        return token
