"""Runs one command in several processes on this machine: starts them, merges their output, stops them."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from mpt.errors import UserError

# The number of processes and the number of this one, for hosts that no cluster manager numbers. They are told
# of the first one's address by JAX's own variable. `mpt launch` sets all three.
PROCESSES, PROCESS, COORDINATOR = "MPT_PROCESSES", "MPT_PROCESS", "JAX_COORDINATOR_ADDRESS"
PATIENCE = 5  # seconds until a process that was asked to stop is killed


def launch(arguments: Sequence[str], processes: int, devices: int = 0) -> None:
    """Runs ``mpt ARGUMENTS`` in several processes, and prints the output of each after its number.

    Args:
        processes: how many processes.
        devices: number of devices that each process simulates on the CPU; 0 uses the machine's devices.

    Raises:
        UserError: a process has failed, and the others have been stopped.
    """
    environment = os.environ | {
        COORDINATOR: f"localhost:{free_port()}",
        PROCESSES: str(processes),
        "PYTHONUNBUFFERED": "1",  # so that each line arrives when it is printed
    }
    if devices:
        environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "mpt.cli", *arguments],
            env=environment | {PROCESS: str(number)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for number in range(processes)
    ]
    ended: queue.Queue[int] = queue.Queue()
    last_lines = [""] * processes

    def listen(number: int) -> None:
        for line in started[number].stdout or ():
            last_lines[number] = line.strip() or last_lines[number]
            sys.stdout.write(f"[{number}] {line}")
            sys.stdout.flush()
        started[number].wait()
        ended.put(number)

    for number in range(processes):
        threading.Thread(target=listen, args=(number,), daemon=True).start()
    try:
        for _ in started:
            number = ended.get()
            if status := started[number].returncode:
                how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                output = f": {last_lines[number]}" if last_lines[number] else ""
                raise UserError(f"process {number} of {processes} {how}, the others were stopped{output}")
    finally:
        stop(started)


def stop(processes: Sequence[subprocess.Popen]) -> None:
    """Terminates the processes that still run, and kills those that do not end in time."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
