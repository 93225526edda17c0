"""One run in several processes: how they find each other, who of them writes, and how they end together.

Every process runs the same program on its own devices and its own share of the data. The first one
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

# Where `mpt launch` says who a process is; the coordinator's address stands in JAX's own variable.
PROCESSES, PROCESS = "MPT_PROCESSES", "MPT_PROCESS"
HEARTBEAT = 20  # seconds without a sign of life until a process counts as dead


def together(work: Callable[[], int]) -> int:
    """Does ``work`` as one of a run's processes, if it has several, and returns the exit status.

    They are those of `mpt launch`, or those that JAX's cluster detection finds: SLURM's, Open MPI's, a
    Cloud TPU's or GKE's. One that fails ends at once, and so do the others, which miss it.
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
        os._exit(status)  # a plain exit would wait for the others, as they for this one
    return status


def _join() -> None:
    launched = {}
    if PROCESS in os.environ:
        count, own = int(os.environ[PROCESSES]), int(os.environ[PROCESS])
        launched = {"num_processes": count, "process_id": own, "cluster_detection_method": "deactivate"}
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT, **launched)
    except ValueError:  # no cluster is around this process
        return
    if not is_primary():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it stays open


def is_multiprocess() -> bool:
    """Whether the run has other processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process writes for all."""
    return not is_multiprocess() or jax.process_index() == 0


@contextmanager
def one_writes() -> Iterator[bool]:
    """A block that writes where it gives True; no process leaves it before that one has written."""
    yield is_primary()
    wait_for_all()


def wait_for_all() -> None:
    """Goes on when every process has come this far."""
    if is_multiprocess():
        multihost_utils.sync_global_devices("mpt")
