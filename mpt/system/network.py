"""Whether there is a network: asked before a library is, which would try for minutes."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

PATIENCE = 3.0  # seconds
HUB = str(urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname)
ANYWHERE = ("storage.googleapis.com", "huggingface.co", "github.com")  # where data comes from


@cache
def is_online(*hosts: str) -> bool:
    """Whether one of some hosts, or the proxy on the way to it, accepts a connection."""
    hosts, answers, end = hosts or ANYWHERE, queue.SimpleQueue[bool](), time.monotonic() + PATIENCE
    for host in hosts:
        # In threads that nobody waits for: looking up a name has no time limit.
        threading.Thread(target=lambda host: answers.put(_answers(host)), args=(host,), daemon=True).start()
    try:
        return any(answers.get(timeout=max(0.0, end - time.monotonic())) for _ in hosts)
    except queue.Empty:
        return False


def _answers(host: str) -> bool:
    proxy = "" if proxy_bypass(host) else getproxies().get("https", "")
    way = urlsplit(proxy if "://" in proxy else f"https://{proxy or host}")
    try:
        with socket.create_connection((str(way.hostname), way.port or 443), PATIENCE):
            return True
    except OSError:
        return False
