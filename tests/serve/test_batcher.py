"""The queue and its worker, with jobs that need no model."""

from __future__ import annotations

import threading
from typing import NamedTuple

import pytest

from mpt.serve.batcher import Batcher, Closed, Full


class Job(NamedTuple):
    number: int
    key: str = "a"


class Gate:
    """Answers with the jobs' numbers once it is open, and keeps the batches."""

    def __init__(self):
        self.open, self.entered, self.batches = threading.Event(), threading.Semaphore(0), []

    def __call__(self, jobs):
        self.entered.release()
        assert self.open.wait(20)
        self.batches.append([job.number for job in jobs])
        return [ValueError(job.number) if job.number < 0 else job.number for job in jobs]


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def start(gate):
    """A batcher that is closed when the test is over."""
    made = []

    def start(**keys) -> Batcher:
        made.append(Batcher(gate, **{"max_batch": 4, "wait": 0.0, "capacity": 8} | keys))
        made[-1].start()
        while not made[-1].ready and not made[-1].finished:
            pass
        return made[-1]

    yield start
    gate.open.set()
    for batcher in made:
        batcher.close()
        batcher.join()


def busy(batcher: Batcher, gate: Gate):
    """The future of a job that the worker has begun."""
    (future,) = batcher.put([Job(0)])
    assert gate.entered.acquire(timeout=20)
    return future


def test_jobs_that_wait_are_answered_together_and_oldest_first(start, gate):
    batcher = start()
    first = busy(batcher, gate)
    futures = batcher.put([Job(1), Job(2, "b"), Job(3), Job(4), Job(5), Job(6), Job(7, "b")])
    gate.open.set()
    assert [future.result(20) for future in [first, *futures]] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert gate.batches == [[0], [1, 3, 4, 5], [2, 7], [6]]


def test_a_batch_waits_for_others_but_not_once_it_is_full(start, gate):
    gate.open.set()
    batcher = start(wait=60.0, max_batch=2)
    early = batcher.put([Job(1)])
    late = batcher.put([Job(2)])
    assert [future.result(20) for future in early + late] == [1, 2]
    assert gate.batches == [[1, 2]]


def test_too_many_are_refused_whole_and_the_others_answered(start, gate):
    batcher = start()
    first = busy(batcher, gate)
    taken = batcher.put([Job(number) for number in range(1, 7)])
    with pytest.raises(Full):
        batcher.put([Job(8), Job(9), Job(10)])
    taken += batcher.put([Job(7), Job(8)])
    assert len(batcher) == 8
    gate.open.set()
    assert [future.result(20) for future in [first, *taken]] == list(range(9))


def test_cancelled_jobs_are_dropped_and_make_room(start, gate):
    batcher = start()
    busy(batcher, gate)
    dropped = batcher.put([Job(number) for number in range(1, 9)])
    for future in dropped:
        future.cancel()
    taken = batcher.put([Job(9)])
    gate.open.set()
    assert taken[0].result(20) == 9
    assert gate.batches == [[0], [9]]


def test_closing_answers_what_is_taken_and_refuses_the_rest(start, gate):
    batcher = start(wait=60.0)
    futures = batcher.put([Job(1), Job(2, "b")])
    batcher.close()
    with pytest.raises(Closed):
        batcher.put([Job(3)])
    assert not batcher.finished
    gate.open.set()
    batcher.join()
    assert [future.result(0) for future in futures] == [1, 2]
    assert batcher.finished


def test_one_jobs_fault_is_its_own(start, gate):
    gate.open.set()
    good, bad = start(wait=60.0, max_batch=2).put([Job(1), Job(-2)])
    assert good.result(20) == 1
    assert isinstance(bad.exception(20), ValueError)


def test_a_failed_batch_does_not_end_the_worker():
    def answer(jobs):
        return [1 // job.number for job in jobs]

    batcher = Batcher(answer, max_batch=4, wait=0.0, capacity=8)
    batcher.start()
    while not batcher.ready:
        pass
    with pytest.raises(ZeroDivisionError):
        batcher.put([Job(0)])[0].result(20)
    assert batcher.put([Job(1)])[0].result(20) == 1
    batcher.close()
    batcher.join()


def test_a_failed_start_is_told():
    def prepare():
        raise MemoryError("no room")

    batcher = Batcher(list, max_batch=4, wait=0.0, capacity=8, prepare=prepare)
    batcher.start()
    batcher.join()
    assert str(batcher.failure) == "no room"
    with pytest.raises(Closed):
        batcher.put([Job(0)])


def test_closing_ends_the_preparation(gate):
    begun, go = threading.Event(), threading.Event()

    def prepare():
        for _ in range(2):
            yield
            assert not go.is_set()
            begun.set()
            assert go.wait(20)

    batcher = Batcher(gate, max_batch=4, wait=0.0, capacity=8, prepare=prepare)
    batcher.start()
    assert begun.wait(20)
    batcher.close()
    go.set()
    batcher.join()
    assert batcher.failure is None
    assert not batcher.ready


def test_batches_are_seen(start, gate):
    seen = []
    gate.open.set()
    futures = start(wait=60.0, max_batch=2, on_batch=lambda jobs, seconds: seen.append(jobs)).put(
        [Job(1), Job(2)]
    )
    assert [future.result(20) for future in futures] == [1, 2]
    assert seen == [2]
