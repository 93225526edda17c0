"""Watches the other processes of a run, so that all of them report the loss of one by its name.

Every process keeps a connection to the first one and says nothing over it until its work is done. The
operating systems look after the connections: they notice a host that no longer answers, however busy its
processes are, and a process that has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from typing import Any

from jax._src import distributed  # JAX has no public name for what its processes share

from mpt.errors import tell, warn

# A host that has been silent for five seconds is asked three times; after three more seconds it is lost.
PROBES = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}
GRACE = 3.0  # seconds in which a process can say itself why it ends
CONNECTING, JOINING = 20.0, 300.0  # seconds until a connection, and the first process, are given up
DONE, KEY = "done", "mpt/first"


class Watch:
    """The connections of this process to others.

    Args:
        number: of this process.
        count: of all processes.
    """

    def __init__(self, number: int, count: int):
        self._name = f"process {number} of {count} ({socket.gethostname()})"
        self._ends: list[socket.socket] = []
        self._lost, self._left, self._telling = threading.Event(), False, threading.Lock()
        if number == 0:
            self._receive()
        else:
            self._connect()

    def leave(self) -> None:
        """Tells the others that the work of this process is done."""
        self._left = True
        self._send(DONE)

    def settle(self) -> None:
        """Waits a moment after an error, in case it is due to the loss of a process, which is then reported
        instead."""
        if self._lost.wait(GRACE):
            time.sleep(3 * GRACE)  # this process ends in that time

    def _receive(self) -> None:
        """Lets the other processes connect; a stranger does not know the word that they give."""
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        server = socket.create_server(("", 0), family=family, dualstack_ipv6=dual)
        word = secrets.token_hex()

        def accept() -> None:
            while True:
                self._start(self._greet, server.accept()[0], word)

        self._start(accept)
        here = {"port": server.getsockname()[1], "word": word, "name": self._name}
        _shared().key_value_set(KEY, json.dumps(here))

    def _greet(self, end: socket.socket, word: str) -> None:
        """Reads the name of a process that has connected, and follows it from then on."""
        lines, greeting = end.makefile(encoding="utf-8", errors="replace"), ""
        with contextlib.suppress(OSError):
            greeting = lines.readline().strip()
        given, _, name = greeting.partition(" ")
        if secrets.compare_digest(given.encode(), word.encode()):
            self._ends.append(end)
            self._follow(end, lines, name)
        end.close()

    def _connect(self) -> None:
        first = json.loads(_shared().blocking_key_value_get(KEY, int(1000 * JOINING)))
        host = str(distributed.global_state.coordinator_address).rpartition(":")[0].strip("[]")
        try:
            end = socket.create_connection((host, first["port"]), CONNECTING)
            end.settimeout(None)
            end.sendall(f"{first['word']} {self._name}\n".encode())
        except OSError as error:
            warn(f"{self._name} cannot watch {first['name']} ({error}): its loss is noticed later, by JAX")
            return
        self._ends.append(end)
        self._start(self._follow, end, end.makefile(encoding="utf-8"), first["name"])

    def _follow(self, end: socket.socket, lines: Any, name: str) -> None:
        """Waits for a process's last line; it is lost if it leaves without one."""
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in PROBES.items():
            if hasattr(socket, option):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        said, why = "", "ended before its work was done; see its own output"
        try:
            said = lines.readline().strip()
        except OSError as error:
            if not isinstance(error, ConnectionError):  # which is how an ended process is noticed, too
                why = f"no longer answers {self._name}"
        if said != DONE and not self._left:
            self._tell(said or f"{name} {why}")

    def _tell(self, loss: str) -> None:
        """Tells everyone what was lost, and ends this process."""
        with self._telling:  # until the process ends; who comes second has nothing to add
            if self._lost.is_set():
                return
            self._lost.set()
            self._send(loss)
            time.sleep(GRACE)
            remedy = "the same command resumes from the last checkpoint, on the hosts that are left too"
            tell(f"{loss}; {remedy}")
            os._exit(1)

    def _send(self, line: str) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):  # it has ended, too
                end.sendall(f"{line}\n".encode())

    @staticmethod
    def _start(work: Any, *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()


def _shared() -> Any:
    """What JAX's coordinator keeps for all processes: texts by name."""
    return distributed.global_state.client
