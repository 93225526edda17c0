"""What many clients ask, gathered into batches by one worker.

Jobs wait in a queue with a bound. One thread takes the oldest, waits a moment for others of its kind,
and answers them together: the backbone does one thing at a time, and does it for as many as it can.
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
    """Something to be answered."""

    @property
    def key(self) -> Hashable:
        """Jobs of one key can be answered together."""
        ...


class Waiting(NamedTuple):
    job: Job
    future: Future[Any]
    since: float  # seconds of the monotonic clock


class Full(Exception):
    """There is no room for these jobs now."""


class Closed(Exception):
    """No job is taken any more, or none yet."""


class Batcher:
    """A bounded queue and its worker.

    Every job that is taken is answered, with a result or an exception, unless its future is cancelled.

    Args:
        answer: answers jobs of one key, each with a result or an exception.
        most: jobs of a batch.
        wait: seconds that a batch's first job waits for others.
        room: jobs that may wait.
        prepare: is run through by the worker before it takes jobs; closing ends it between two items.
        seen: is told the jobs of each batch and the seconds that it took.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Any]], Sequence[Any]],
        most: int,
        wait: float,
        room: int,
        prepare: Callable[[], Iterable[object]] = tuple,
        seen: Callable[[int, float], object] = lambda jobs, seconds: None,
    ):
        self._answer, self._most, self._wait, self._room = answer, most, wait, room
        self._prepare, self._seen = prepare, seen
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed, self.ready = False, False
        self.failure: Exception | None = None
        self._worker = threading.Thread(target=self._work, name="mpt-batches", daemon=True)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def finished(self) -> bool:
        """Whether it has closed, or failed to start, and nothing is left to do."""
        return self._worker.ident is not None and not self._worker.is_alive()

    def start(self) -> None:
        self._worker.start()

    def close(self) -> None:
        """Takes no more jobs; those taken are still answered."""
        with self._changed:
            self._closed, self.ready = True, False
            self._changed.notify_all()

    def join(self) -> None:
        """Waits until all taken jobs are answered."""
        self._worker.join()

    def put(self, jobs: Sequence[Job]) -> list[Future[Any]]:
        """Takes all of these jobs, or none.

        Raises:
            Full: there is no room for them.
            Closed: it has not started yet, or is closing.
        """
        with self._changed:
            if not self.ready:
                raise Closed
            if len(self._waiting) + len(jobs) > self._room:
                self._drop_cancelled()
            if len(self._waiting) + len(jobs) > self._room:
                raise Full
            taken = [Waiting(job, Future(), time.monotonic()) for job in jobs]
            self._waiting += taken
            self._changed.notify_all()
            return [waiting.future for waiting in taken]

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
        """The next batch, oldest first; none when closed and all is answered."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._drop_cancelled()
                if not self._waiting:
                    if self._closed:
                        return []
                    continue
                first = self._waiting[0]
                alike = [waiting for waiting in self._waiting if waiting.job.key == first.job.key]
                left = first.since + self._wait - time.monotonic()
                if len(alike) >= self._most or left <= 0 or self._closed:
                    break
                self._changed.wait(left)
            batch = alike[: self._most]
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
        self._seen(len(batch), time.monotonic() - began)
        for waiting, result in zip(batch, results):
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
