"""Dynamic batching: one worker thread collects the jobs of many clients into batches.

Jobs wait in a bounded queue. The worker takes the oldest one, waits a moment for more jobs with the same key,
and answers them in one batch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, runtime_checkable

log = logging.getLogger("mpt.serve")


@runtime_checkable
class Job(Protocol):
    """Something that the batcher can have answered."""

    @property
    def key(self) -> Hashable:
        """Only jobs with the same key can share a batch."""
        ...


class Waiting(NamedTuple):
    """A job in the queue."""

    job: Job
    future: Future[Any]
    since: float  # the monotonic clock when it was queued, in seconds


class Full(Exception):
    """The queue does not have enough capacity left for these jobs."""


class Closed(Exception):
    """The batcher has not started yet, or is closing."""


class Batcher:
    """A bounded queue of jobs, and its worker thread.

    Every job that is accepted is answered with a result or an exception, unless its future is cancelled.

    Args:
        answer: a function from jobs with the same key to a result or an exception for each.
        max_batch: maximum number of jobs in a batch.
        wait: seconds that the first job of a batch waits for others.
        capacity: maximum number of jobs in the queue.
        prepare: returns an iterable that the worker exhausts before it accepts jobs; closing the batcher ends
            it between two items.
        on_batch: is called after each batch with its number of jobs and its duration in seconds.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Any]], Sequence[Any]],
        max_batch: int,
        wait: float,
        capacity: int,
        prepare: Callable[[], Iterable[object]] = tuple,
        on_batch: Callable[[int, float], object] = lambda jobs, seconds: None,
    ):
        self._answer, self._max_batch, self._wait, self._capacity = answer, max_batch, wait, capacity
        self._prepare, self._on_batch = prepare, on_batch
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed, self.ready = False, False
        self.failure: Exception | None = None
        self._worker = threading.Thread(target=self._work, name="mpt-batches", daemon=True)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def finished(self) -> bool:
        """Whether the worker has ended: after closing and answering all jobs, or after failing to start."""
        return self._worker.ident is not None and not self._worker.is_alive()

    def start(self) -> None:
        """Starts the worker."""
        self._worker.start()

    def close(self) -> None:
        """Accepts no more jobs; those accepted before are still answered."""
        with self._changed:
            self._closed, self.ready = True, False
            self._changed.notify_all()

    def join(self) -> None:
        """Waits until all accepted jobs are answered."""
        self._worker.join()

    def put(self, jobs: Sequence[Job]) -> list[Future[Any]]:
        """Queues all of these jobs, or none.

        Raises:
            Full: they exceed the queue's capacity.
            Closed: the batcher has not started yet, or is closing.
        """
        with self._changed:
            if not self.ready:
                raise Closed
            if len(self._waiting) + len(jobs) > self._capacity:
                self._drop_cancelled()
            if len(self._waiting) + len(jobs) > self._capacity:
                raise Full
            queued = [Waiting(job, Future(), time.monotonic()) for job in jobs]
            self._waiting += queued
            self._changed.notify_all()
            return [waiting.future for waiting in queued]

    def _work(self) -> None:
        try:
            for _ in self._prepare():
                if self._closed:
                    return
        except Exception as error:
            log.exception("the server cannot start")
            self.failure = error
            return
        with self._changed:
            self.ready = not self._closed
        while batch := self._gather():
            self._answer_all([waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()])

    def _gather(self) -> list[Waiting]:
        """Waits for the next batch, oldest first; an empty one means that the batcher is closed and done."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._drop_cancelled()
                if not self._waiting:
                    if self._closed:
                        return []
                    continue
                first = self._waiting[0]
                same_key = [waiting for waiting in self._waiting if waiting.job.key == first.job.key]
                remaining = first.since + self._wait - time.monotonic()
                if len(same_key) >= self._max_batch or remaining <= 0 or self._closed:
                    break
                self._changed.wait(remaining)
            batch = same_key[: self._max_batch]
            chosen = {id(waiting) for waiting in batch}
            self._waiting = deque(waiting for waiting in self._waiting if id(waiting) not in chosen)
            return batch

    def _drop_cancelled(self) -> None:
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.future.cancelled())

    def _answer_all(self, batch: Sequence[Waiting]) -> None:
        if not batch:
            return
        began = time.monotonic()
        try:
            results = self._answer([waiting.job for waiting in batch])
        except Exception as error:  # one bad batch must not end the server
            log.exception("a batch of %d failed", len(batch))
            results = [error] * len(batch)
        self._on_batch(len(batch), time.monotonic() - began)
        for waiting, result in zip(batch, results):
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
