"""Runs to serve: plain prompts of two tasks, a text task, and one that is more than a prompt."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from golden import tiny
from runs import random, run_of, universal_run
from toys import tiny_tokenizer, until

from mpt.methods.dept import DecomposedPrompt
from mpt.prompts import SoftPrompt
from mpt.serve.app import Service
from mpt.serve.engine import Engine
from mpt.serve.options import ServeOptions
from mpt.serve.server import server_of

ROWS = [{"text": "a", "more": "b", "label": "yes"}]


@pytest.fixture(scope="session")
def runs(tmp_path_factory, tiny_model) -> dict[str, Path]:
    """Task -> the run that knows it."""
    folder = tmp_path_factory.mktemp("served")
    universal = universal_run(folder / "universal", tiny_model)
    text = {"verbalizer": {}, "metric": "exact_match", "template": "{text} {more}\nSo:"}
    words = {"yes": "good word", "no": "bad"}
    return {
        "tone": universal,
        "colour": universal,
        "title": run_of(
            folder / "text", tiny_model, SoftPrompt(random(5, 1, 4, 32)), "title", rows=ROWS, **text
        ),
        "long": run_of(
            folder / "long", tiny_model, SoftPrompt(random(6, 1, 4, 32)), "long", rows=ROWS, verbalizer=words
        ),
        "mood": run_of(
            folder / "dept",
            tiny_model,
            DecomposedPrompt(random(7, 1, 3, 32), random(8, 1, 24, 2), random(9, 1, 2, 32)),
            "mood",
        ),
    }


@pytest.fixture(scope="session")
def options() -> ServeOptions:
    return ServeOptions(max_batch=4, max_tokens=8, max_rows=6, queue=12, max_bytes=2000, wait_ms=20)


@pytest.fixture(scope="session")
def engine(runs, options) -> Engine:
    return Engine(list(dict.fromkeys(runs.values())), options.max_batch, options.max_tokens)


# One letter for each speaker, since the tiny models read few tokens.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'][0] }}:{{ message['content'] }}<pad>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


@pytest.fixture(scope="session")
def chat_engine(tmp_path_factory) -> Engine:
    """Serves a task with classes and a task of free text on a model whose tokenizer has a chat template."""
    folder, tokenizer = tmp_path_factory.mktemp("chat"), tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    model = tiny.write(folder / "model", "toy-llama", tokenizer, tiny.weights("toy-llama"))
    text = {"verbalizer": {}, "metric": "exact_match", "template": "{text}\nSo:"}
    runs = [
        run_of(folder / "tone", model, SoftPrompt(random(4, 1, 4, 32)), "tone"),
        run_of(folder / "title", model, SoftPrompt(random(5, 1, 4, 32)), "title", rows=ROWS, **text),
    ]
    return Engine(runs, 4, 8)


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


@pytest.fixture(scope="session")
def running():
    """Runs a service in a thread, on a port of its own; it must log no error."""

    @contextmanager
    def run(service: Service, buffer: int | None = None) -> Iterator[str]:
        listener = socket.create_server(("127.0.0.1", 0))
        if buffer:  # in bytes, of what the system keeps for a client that does not read
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        server, records = server_of(service, service.options), Records()
        loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio", "mpt.serve")]
        for logger in loggers:
            logger.addHandler(records)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: service.batcher.ready)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            until(lambda: not server.server_state.connections)
        finally:
            service.batcher.close()
            thread.join()
            for logger in loggers:
                logger.removeHandler(records)
        errors = [record.getMessage() for record in records.kept if record.levelno >= logging.ERROR]
        assert not errors

    return run
