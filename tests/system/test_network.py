"""Whether there is a network is known soon, whatever the network does."""

from __future__ import annotations

import socket
import threading

import pytest

from mpt.system import network
from mpt.system.network import is_online


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(network, "PATIENCE", 0.2)
    for name in ("https_proxy", "http_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    is_online.cache_clear()
    yield
    is_online.cache_clear()


@pytest.fixture
def connections(monkeypatch):
    """What is connected to; ``answer`` says what comes of it."""
    asked = []

    def with_answer(answer):
        def connect(address, timeout):
            asked.append(address)
            return answer(address)

        monkeypatch.setattr(socket, "create_connection", connect)
        return asked

    return with_answer


def refuse(_):
    raise OSError("no route to host")


def test_no_network_is_told_at_once(connections):
    assert len(connections(refuse)) == 0
    assert not is_online()


def test_a_network_that_never_answers_counts_as_none(connections):
    silent = threading.Event()
    connections(lambda _: silent.wait(60) and socket.socket())
    assert not is_online("one", "two")
    silent.set()


def test_one_host_that_answers_is_enough(connections):
    connections(lambda address: socket.socket() if address[0] == "two" else refuse(address))
    assert is_online("one", "two", "three")


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("https://mirror.example", ("mirror.example", 443)),
        ("https://mirror.example:8443/hf", ("mirror.example", 8443)),
        ("http://localhost:9000", ("localhost", 9000)),
        ("http://mirror.example", ("mirror.example", 80)),
    ],
)
def test_a_mirror_is_asked_at_its_own_port(connections, address, asked):
    found = connections(lambda _: socket.socket())
    assert is_online(address)
    assert found == [asked]


def test_a_proxy_is_asked_in_place_of_the_host(connections, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    asked = connections(lambda _: socket.socket())
    assert is_online("host.example")
    assert asked == [("proxy.example", 3128)]
