"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counts of one server.

    Args:
        waiting: tells how many rows wait.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, waiting: Callable[[], float]):
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "mpt_requests", "Requests answered, by route and status.", ["route", "status"], registry=own
        )
        self._seconds = Histogram(
            "mpt_request_seconds", "From a request to its answer.", ["route"], buckets=SECONDS, registry=own
        )
        self._batch_rows = Histogram("mpt_batch_rows", "Rows of a batch.", buckets=ROWS, registry=own)
        self._batch_seconds = Histogram(
            "mpt_batch_seconds", "Computing a batch.", buckets=SECONDS, registry=own
        )
        self._tokens = Counter("mpt_tokens", "Tokens read and written.", ["kind"], registry=own)
        Gauge("mpt_queue_rows", "Rows that wait.", registry=own).set_function(waiting)

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def tokens(self, read: int, wrote: int) -> None:
        self._tokens.labels("read").inc(read)
        self._tokens.labels("written").inc(wrote)

    def text(self) -> bytes:
        return generate_latest(self._registry)
