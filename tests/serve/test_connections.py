"""Clients that vanish, close one side, send too slowly, do not read, or speak no HTTP; over real sockets."""

from __future__ import annotations

import gc
import json
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from test_app import Held
from toys import until

from mpt.serve.app import Service

PATIENCE = 60  # seconds that a client of these tests waits


@pytest.fixture
def held(engine):
    return Held(engine)


@pytest.fixture
def service(held, options):
    """Answers one row after another, once it may."""
    return Service(held, replace(options, wait_ms=0.0, max_batch=1, queue=250, timeout=300))


@pytest.fixture
def impatient(held, options):
    held.go.set()
    return Service(held, replace(options, timeout=0.5))


def connected(address: str, text: bytes = b"", receive: int | None = None) -> socket.socket:
    """A connection on which something has been sent."""
    client = socket.socket()
    client.settimeout(PATIENCE)
    if receive:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    host, port = address.split(":")
    client.connect((host, int(port)))
    client.sendall(text)
    return client


def request(word: str = "great", route: str = "classify", version: str = "1.1", **more) -> bytes:
    text = {"task": "tone", "inputs": word} if route == "classify" else {"model": "tone", "prompt": word}
    body = json.dumps(text | more).encode()
    head = (
        f"POST /v1/{route} HTTP/{version}\r\nHost: here\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def received(client: socket.socket) -> bytes:
    """All that arrives until the server closes the connection."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def closed(client: socket.socket) -> bool:
    """Whether the server closes the connection, whatever it sends before."""
    try:
        received(client)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("wait", [0.0, 1.3])
def test_a_client_that_has_closed_its_sending_side_is_answered(running, service, held, version, wait):
    with running(service) as address, connected(address, request(version=version)) as client:
        client.shutdown(socket.SHUT_WR)
        assert held.begun.wait(PATIENCE)
        time.sleep(wait)  # beyond it, the server has looked twice whether the client is there
        held.go.set()
        answer = received(client)
    assert b"HTTP/1.1 200" in answer
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["results"][0]["prediction"] in ("yes", "no")
    assert (b"100 Continue" in answer) == (version == "1.1")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_two_hundred_clients_that_vanish_cost_the_others_nothing(running, service, held, how):
    with running(service) as address, ExitStack() as stack:
        before = stack.enter_context(connected(address, request()))
        assert held.begun.wait(PATIENCE)
        crowd = [connected(address, request(f"great {i}")) for i in range(200)]
        until(lambda: len(service.batcher) == 200)
        behind = stack.enter_context(connected(address, request("behind")))
        until(lambda: len(service.batcher) == 201)
        for client in crowd:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        until(lambda: 'status="499"} 200.0' in service.metrics.text().decode())
        held.go.set()
        for client in (before, behind):
            client.shutdown(socket.SHUT_WR)
            assert b"HTTP/1.1 200" in received(client)
        assert [request.example.fields["text"] for request in held.answered] == ["great", "behind"]
        assert len(service.batcher) == 0


@pytest.mark.full
@pytest.mark.parametrize("route", ["classify", "completions"])
def test_clients_that_vanish_leave_nothing_in_memory(running, service, held, route):
    """A request that were kept would be a dozen objects: its text, its row, its future, its connection."""
    blocks = []
    more = {"stream": True} if route == "completions" else {}
    with running(service) as address:
        for turn in range(1, 5):
            held.go.clear(), held.begun.clear()
            with connected(address, request()) as first:
                assert held.begun.wait(PATIENCE)
                crowd = [connected(address, request(f"great {i}", route, **more)) for i in range(200)]
                until(lambda: len(service.batcher) == 200)
                for client in crowd:
                    client.close()
                until(lambda: f'status="499"}} {200.0 * turn}' in service.metrics.text().decode())  # noqa: B023
                held.go.set()
                first.shutdown(socket.SHUT_WR)
                assert b"HTTP/1.1 200" in received(first)
            until(lambda: not len(service.batcher))
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    # What the first crowds have made, such as compiled programs, is there for the last two.
    assert blocks[-1] - blocks[1] < 5 * 400, blocks


def test_a_stream_whose_client_vanishes_ends(running, engine, options):
    """The row is dropped at the next look; the next client is answered."""
    service = Service(engine, options)
    with running(service) as address:
        with connected(address, request("so", "completions", stream=True, max_tokens=8)) as client:
            assert client.recv(20).startswith(b"HTTP/1.1 200")
        with connected(address, request("so", "completions", stream=True)) as client:
            client.shutdown(socket.SHUT_WR)
            assert b"data: [DONE]" in received(client)


def test_a_client_that_does_not_read_is_dropped(running, impatient):
    with running(impatient, buffer=4096) as address:
        wish = b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n"
        with connected(address, 20 * wish, receive=4096) as silent:
            time.sleep(1.0)
            assert closed(silent)
        with connected(address, request()) as client:
            client.shutdown(socket.SHUT_WR)
            assert b"HTTP/1.1 200" in received(client)


@pytest.mark.parametrize(
    "start", [b"", b"POST /v1/cl", b"POST /v1/classify HTTP/1.1\r\nHost:", request()[:-3]]
)
def test_a_client_that_does_not_finish_its_request_is_dropped(running, impatient, start):
    with running(impatient) as address, connected(address, start) as client:
        assert closed(client)


def test_a_client_that_gets_stuck_in_its_second_request_is_dropped(running, impatient):
    with running(impatient) as address, connected(address, request() + b"GET /he") as client:
        assert client.recv(20).startswith(b"HTTP/1.1 200")
        assert closed(client)


CHUNKED = b"POST /v1/classify HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "text",
    [
        b"\0\1\2\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nContent-Length: many\r\n\r\n",
        CHUNKED + b"Content-Type: application/json\r\n\r\nno number\r\n",
    ],
)
def test_what_is_no_http_is_told_in_openais_shape(running, impatient, text):
    with running(impatient) as address, connected(address, text) as client:
        answer = received(client)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["message"]


def test_garbage_behind_an_answer_closes_the_connection(running, impatient):
    """The answer, a refusal, has come before the body is over."""
    with running(impatient) as address, connected(address, CHUNKED + b"\r\n") as client:
        assert client.recv(20).startswith(b"HTTP/1.1 415")
        client.sendall(b"no number\r\n")
        assert closed(client)
