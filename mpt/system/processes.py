"""Runs in several processes: how they join, which one writes, and how all end when one fails.

Every process runs the same program on its own devices and its own share of the data. The primary process
writes for all of them, into a folder that all can read.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from mpt.errors import UserError, one_line, tell
from mpt.system import said
from mpt.system.launch import COORDINATOR, PROCESS, PROCESSES
from mpt.system.signals import STOPPED
from mpt.system.watch import Watch

HEARTBEAT = 40  # seconds until JAX gives a process up; `Watch` notices its loss sooner, and names it


def run_distributed(work: Callable[[], int]) -> int:
    """Joins the other processes of the run, if there are any, does ``work`` and returns its exit status.

    The processes are those that the environment numbers, or those that JAX's cluster detection finds for
    SLURM, Open MPI, Cloud TPU or GKE. A process that fails ends at once; the others notice it and end, too.
    """
    try:
        watch = _join()
    except UserError as error:
        tell(str(error))
        _end_at_once(2)
    if watch is None:
        return work()
    try:
        status = work()
    except Exception:
        watch.settle()
        traceback.print_exc()
        status = 1
    if status not in (0, STOPPED):  # all of them stop after the same step
        _end_at_once(status)
    watch.leave()
    return status


def _end_at_once(status: int) -> NoReturn:
    """Ends this process; a normal exit would wait for the others, which wait for this one."""
    sys.stderr.flush()
    os._exit(status)


def _join() -> Watch | None:
    """Joins the other processes, and watches them; None where this process is alone.

    Raises:
        UserError: the environment numbers the processes wrongly, or this host cannot reach the others.
    """
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT, **_numbered())
    except ValueError:  # this process is not part of a cluster
        return None
    try:
        number, count = jax.process_index(), jax.process_count()
    except RuntimeError as error:
        raise UserError(
            f"the devices of this host cannot join those of the others ({one_line(error)}); the name "
            f"of each host, here '{socket.gethostname()}', must be one that all hosts can resolve"
        ) from None
    if number:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it stays open until the end
        said.speak(False)
    return Watch(number, count) if count > 1 else None


def _numbered() -> dict[str, Any]:
    """What the environment says of the processes, as arguments of ``jax.distributed.initialize``."""
    if PROCESS not in os.environ:
        return {}
    try:
        count, number = int(os.environ[PROCESSES]), int(os.environ[PROCESS])
    except (KeyError, ValueError):
        count, number = 0, 0
    if not 0 <= number < count or ":" not in os.environ.get(COORDINATOR, ""):
        raise UserError(
            f"{PROCESS} is the number of a process, from 0 on; with it, {PROCESSES} must be the number of "
            f"processes, and {COORDINATOR} the address of the first one, as host:port"
        )
    return {"num_processes": count, "process_id": number, "cluster_detection_method": "deactivate"}


def is_multiprocess() -> bool:
    """Whether the run has more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process writes for all processes of the run."""
    return not is_multiprocess() or jax.process_index() == 0


@contextmanager
def one_writes() -> Iterator[bool]:
    """A context that gives True in the process that shall write; all others wait at its end for that one."""
    yield is_primary()
    wait_for_all()


def agreed(number: float) -> float:
    """The primary process's number: each process finds its own where a clock is asked."""
    return float(multihost_utils.broadcast_one_to_all(np.float32(number))) if is_multiprocess() else number


def wait_for_all() -> None:
    """Waits until every process of the run has called this."""
    if is_multiprocess():
        multihost_utils.sync_global_devices("mpt")
