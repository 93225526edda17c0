"""How a server listens, and what it lets in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpt.errors import UserError

TOKEN = "MPT_SERVE_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeOptions:
    """How a server listens, and what it lets in."""

    host: str = "127.0.0.1"
    """Address to listen on. Only this machine reaches the default."""
    port: int = 8000
    """Port to listen on; 0 takes a free one and prints it."""
    max_batch: int = 16
    """Rows that are computed together at most: the throughput of a processor hardly grows beyond."""
    wait_ms: float = 10.0
    """How long the first row of a batch waits for others, in milliseconds: little beside a batch's time."""
    queue: int = 256
    """Rows that may wait; a request that finds no room is told to come again (429)."""
    timeout: float = 30.0
    """Seconds that a request may take; then it is told to come again (503)."""
    max_tokens: int = 64
    """Tokens that a completion may have, as many as `mpt predict` writes."""
    max_rows: int = 64
    """Texts that one request may hold; more would keep the others waiting."""
    max_bytes: int = 1_048_576
    """Bytes that a request's body may have: 64 texts of 16 KB."""
    token_file: Path | None = None
    """File with the bearer token that clients must show; else MPT_SERVE_TOKEN is read. None: all may ask."""

    def __post_init__(self):
        least = {"port": 0, "wait_ms": 0, "timeout": 0.001, "queue": self.max_rows}
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
            if getattr(self, name) < least.get(name, 1):
                option = f"--{name.replace('_', '-')}"
                why = " (--max-rows, or such a request could never be let in)" if name == "queue" else ""
                raise UserError(
                    f"{option} is {getattr(self, name)}; it must be {least.get(name, 1)} or more{why}"
                )
        if self.port > 65535:
            raise UserError(f"--port is {self.port}; ports end at 65535")

    @property
    def local(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in LOOPBACK

    def token(self, environment: Mapping[str, str] = os.environ) -> str:
        """What clients must show; nothing where none is set. Never an argument, which `ps` would show.

        Raises:
            UserError: the file cannot be read, or the token is empty or has blanks in it.
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
