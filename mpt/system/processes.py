"""Runs in several processes: how they join, which one writes, and how all end when one fails.

Every process runs the same program on its own devices and its own share of the data. The primary process
writes for all of them, into a folder that all can read.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
from jax.experimental import multihost_utils

from mpt.system import said
from mpt.system.launch import PROCESS, PROCESSES

HEARTBEAT = 20  # seconds without a heartbeat until a process counts as dead


def run_distributed(work: Callable[[], int]) -> int:
    """Joins the other processes of the run, if there are any, does ``work`` and returns its exit status.

    The processes are those of `mpt launch`, or those that JAX's cluster detection finds for SLURM, Open MPI,
    Cloud TPU or GKE. A process that fails ends at once; the others notice it and end as well.
    """
    _join()
    if not is_multiprocess():
        return work()
    try:
        status = work()
    except Exception:
        traceback.print_exc()
        status = 1
    if status:
        sys.stderr.flush()
        os._exit(status)  # a normal exit would wait for the others, which wait for this one
    return status


def _join() -> None:
    launched = {}
    if PROCESS in os.environ:
        count, number = int(os.environ[PROCESSES]), int(os.environ[PROCESS])
        launched = {"num_processes": count, "process_id": number, "cluster_detection_method": "deactivate"}
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT, **launched)
    except ValueError:  # this process is not part of a cluster
        return
    if not is_primary():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it stays open until the end
        said.speak(False)


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


def wait_for_all() -> None:
    """Waits until every process of the run has called this."""
    if is_multiprocess():
        multihost_utils.sync_global_devices("mpt")
