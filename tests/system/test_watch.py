"""The processes of a run find each other, and the loss of one is told by its name; here all are threads."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from types import SimpleNamespace

import pytest
from toys import until

from mpt.system import watch
from mpt.system.processes import COORDINATOR, PROCESS, PROCESSES, run_distributed
from mpt.system.watch import KEY, Watch

HOST = socket.gethostname()
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # see `ended`


class Shared(dict):
    """What JAX's coordinator keeps for all processes."""

    def key_value_set(self, key: str, value: str) -> None:
        self[key] = value

    def blocking_key_value_get(self, key: str, milliseconds: int) -> str:
        return self[key]


@pytest.fixture
def shared(monkeypatch):
    state = SimpleNamespace(client=Shared(), coordinator_address="localhost:1")
    monkeypatch.setattr(watch.distributed, "global_state", state)
    monkeypatch.setattr(watch, "GRACE", 0.0)
    return state.client


@pytest.fixture
def ended(monkeypatch) -> list[int]:
    """The exit statuses of processes that end because one is lost."""
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        raise SystemExit(status)  # which ends a thread

    monkeypatch.setattr(watch.os, "_exit", end)
    return statuses


def joined(count: int) -> list[Watch]:
    """So many processes, all of which know the first."""
    processes = [Watch(number, count) for number in range(count)]
    until(lambda: len(processes[0]._ends) == count - 1)
    return processes


def line(loss: str) -> str:
    return f"mpt: {loss}; the same command resumes from the last checkpoint, on the hosts that are left too\n"


def test_processes_that_have_done_their_work_are_not_lost(shared, ended, capsys):
    first, *others = joined(3)
    for process in (*others, first):
        process.leave()
        for end in process._ends:
            with contextlib.suppress(OSError):  # who is told of it closes it, too
                end.shutdown(socket.SHUT_RDWR)
    first.settle()
    assert ended == [] and capsys.readouterr().err == ""


def test_a_process_that_ends_early_is_told_of_by_all_others(shared, ended, capsys):
    _, second, _ = joined(3)
    second._left = True  # it does not see its own end
    second._ends[0].shutdown(socket.SHUT_RDWR)
    until(lambda: len(ended) > 1)
    loss = f"process 1 of 3 ({HOST}) ended before its work was done; see its own output"
    assert capsys.readouterr().err == 2 * line(loss) and ended == [1, 1]


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_a_host_that_does_not_answer_is_named_with_who_asked(shared, ended, capsys, number):
    first, _ = joined(2)

    def unanswered() -> str:
        raise OSError(number, "the network says so")

    with socket.socket() as end, pytest.raises(SystemExit):
        first._follow(end, SimpleNamespace(readline=unanswered), "process 1 of 2 (far)")
    told = f"process 1 of 2 (far) no longer answers process 0 of 2 ({HOST})"
    until(lambda: len(ended) > 1)  # the other is told, too
    assert capsys.readouterr().err == 2 * line(told)


def test_a_stranger_at_the_port_is_nobody(shared, ended, capsys):
    first, _ = joined(2)
    address = ("localhost", json.loads(shared[KEY])["port"])
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"done\n"):
        with socket.create_connection(address) as stranger:
            stranger.sendall(said)
    first.settle()
    assert len(first._ends) == 1 and ended == [] and capsys.readouterr().err == ""


def test_a_first_process_that_cannot_be_reached_is_a_warning(shared, capsys):
    Watch(0, 2)
    with socket.create_server(("localhost", 0)) as closed:
        port = closed.getsockname()[1]
    shared[KEY] = json.dumps(json.loads(shared[KEY]) | {"port": port})
    Watch(1, 2)
    told = f"mpt: warning: process 1 of 2 ({HOST}) cannot watch process 0 of 2 ({HOST}) ("
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize(
    "variables",
    [
        {PROCESS: "4", PROCESSES: "4", COORDINATOR: "localhost:1"},
        {PROCESS: "-1", PROCESSES: "4", COORDINATOR: "localhost:1"},
        {PROCESS: "second", PROCESSES: "4", COORDINATOR: "localhost:1"},
        {PROCESS: "1", COORDINATOR: "localhost:1"},
        {PROCESS: "1", PROCESSES: "4"},
        {PROCESS: "1", PROCESSES: "4", COORDINATOR: "host0"},
    ],
)
def test_processes_that_are_numbered_wrongly_are_refused(variables, monkeypatch, ended, capsys):
    """One of them would else do the work alone."""
    for name in (PROCESS, PROCESSES, COORDINATOR):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        run_distributed(lambda: pytest.fail("it works alone"))
    assert ended == [2]
    assert capsys.readouterr().err.startswith(
        f"mpt: {PROCESS} is the number of a process, from 0 on; with it"
    )
