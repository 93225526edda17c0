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
ANYWHERE = ("storage.googleapis.com", "huggingface.co", "github.com")  # where data comes from


def hub() -> str:
    """The address of the Hugging Face hub, or of the mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


@cache
def is_online(*hosts: str) -> bool:
    """Whether one of some hosts or addresses, or the proxy on the way to it, accepts a connection."""
    hosts, answers, end = hosts or ANYWHERE, queue.SimpleQueue[bool](), time.monotonic() + PATIENCE
    for host in hosts:
        # In threads that nobody waits for: looking up a name has no time limit.
        threading.Thread(target=lambda host: answers.put(_answers(host)), args=(host,), daemon=True).start()
    try:
        return any(answers.get(timeout=max(0.0, end - time.monotonic())) for _ in hosts)
    except queue.Empty:
        return False


def _answers(host: str) -> bool:
    place = urlsplit(host if "://" in host else f"https://{host}")
    proxy = "" if proxy_bypass(str(place.hostname)) else getproxies().get(place.scheme, "")
    way = urlsplit(proxy if "://" in proxy else f"https://{proxy}") if proxy else place
    port = way.port or (80 if way.scheme == "http" else 443)
    try:
        with socket.create_connection((str(way.hostname), port), PATIENCE):
            return True
    except OSError:
        return False
