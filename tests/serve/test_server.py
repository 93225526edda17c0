"""`mpt serve` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
import uvicorn
from toys import start_mpt, until

from mpt.serve.app import Service
from mpt.serve.batcher import Batcher
from mpt.serve.server import Server


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_server_that_warms_up_at_once(how, status, monkeypatch):
    """Whatever is being compiled, which nothing interrupts: no request has been accepted."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    service = Service.__new__(Service)  # without a model
    service.batcher = Batcher(list, 1, 0.0, 1)
    Server(uvicorn.Config(lambda: None), service).handle_exit(how, None)
    assert ended == [status]


@pytest.mark.full
def test_a_server_starts_answers_and_stops_without_losing_a_request(runs):
    options = (
        "--port",
        "0",
        "--max-batch",
        "4",
        "--timeout",
        "120",
        "--max-tokens",
        "8",
        "--wait-ms",
        "60000",
    )
    process = start_mpt("serve", str(runs["tone"]), *options)
    try:
        for start in ("mpt: serving ", "mpt: reading the model "):
            assert process.stderr.readline().startswith(start)
        line = process.stderr.readline()
        assert line.startswith("mpt: tone, colour at http://127.0.0.1:"), line
        address = re.search(r"http://\S+?(?=;)", line)[0]
        with httpx2.Client(base_url=address, timeout=60) as client, ThreadPoolExecutor(8) as pool:
            assert client.get("/health/live").status_code == 200
            assert client.get("/health/ready").status_code == 503
            until(lambda: client.get("/health/ready").status_code == 200)

            def ask(i: int) -> int:
                body = {"task": ("tone", "colour")[i % 2], "inputs": f"so great {i}"}
                return client.post("/v1/classify", json=body).status_code

            assert list(pool.map(ask, range(8))) == [200] * 8  # two batches
            pending = [pool.submit(ask, i) for i in range(3)]  # too few for one: they wait
            until(lambda: "mpt_queue_rows 3.0" in client.get("/metrics").text)
            process.send_signal(signal.SIGTERM)
            assert [future.result() for future in pending] == [200] * 3
        assert process.wait(timeout=60) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
