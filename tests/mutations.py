"""Damaged copies of small files: bytes lost, doubled or changed, and values that do not belong there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

# What stands in a file by mistake, where another value should.
VALUES = (None, True, 0, -1, 3, 10**30, 0.5, 1e300, "", "text", "é\n", [], [1], {}, {"a": 1}, [[]])
WORDS = (b"", b"-", b"0", b"-1", b"NaN", b"1e999", b"null", b"[", b"{", b'"', b"'", b":", b"\n", b"\t", b"\0")


def mutated(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """``count`` damaged copies of a file; of JSON, half have one value in another's place."""
    rng = np.random.default_rng(seed)
    try:
        tree = json.loads(content)
    except ValueError:
        tree = None
    for number in range(count):
        if isinstance(tree, dict) and number % 2:
            yield json.dumps(_replaced(tree, rng)).encode()
        else:
            yield _damaged(content, rng)


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A copy with one to three faults, of which half lie near the start, where a file says what it is."""
    for _ in range(rng.integers(1, 4)):
        end = len(content) if rng.random() < 0.5 else min(len(content), 400)
        start = int(rng.integers(0, max(1, end)))
        stop = start + int(rng.integers(1, 12))
        kind = rng.integers(0, 6)
        if kind == 0:
            content = content[:start]
        elif kind == 1:
            content = content[:start] + content[stop:]
        elif kind == 2:
            content = content[:stop] + content[start:]
        elif kind == 3:
            content = content[:start] + rng.bytes(stop - start) + content[stop:]
        elif kind == 4:
            content = content[:start] + WORDS[rng.integers(len(WORDS))] + content[stop:]
        else:
            content = content[:start] + bytes([int(rng.integers(256))]) + content[start + 1 :]
    return content


def _replaced(tree: Any, rng: np.random.Generator) -> Any:
    """A copy of a tree in which one value is lost, or is another."""
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.1:
        return VALUES[rng.integers(len(VALUES))]
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key, copy = keys[rng.integers(len(keys))], tree.copy()
    if rng.random() < 0.1:
        del copy[key]
    else:
        copy[key] = _replaced(tree[key], rng)
    return copy
