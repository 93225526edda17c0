"""The server's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server.

    Args:
        waiting: a function that returns the number of rows in the queue.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, waiting: Callable[[], float]):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "mpt_requests", "Requests answered, by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "mpt_request_seconds",
            "From a request to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_rows = Histogram("mpt_batch_rows", "Rows of a batch.", buckets=ROWS, registry=registry)
        self._batch_seconds = Histogram(
            "mpt_batch_seconds", "Computing a batch.", buckets=SECONDS, registry=registry
        )
        self._tokens = Counter("mpt_tokens", "Tokens read and written.", ["kind"], registry=registry)
        Gauge("mpt_queue_rows", "Rows that wait.", registry=registry).set_function(waiting)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts a request and the seconds until its response."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        """Counts a batch and the seconds that it took."""
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def tokens(self, read: int, written: int) -> None:
        """Counts the tokens of inputs and of generated texts."""
        self._tokens.labels("read").inc(read)
        self._tokens.labels("written").inc(written)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
