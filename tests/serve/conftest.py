"""Runs to serve: plain prompts of two tasks, a text task, and one that is more than a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import random, run_of, universal_run

from mpt.methods.dept import DecomposedPrompt
from mpt.prompts import SoftPrompt
from mpt.serve.engine import Engine
from mpt.serve.options import ServeOptions

ROWS = [{"text": "a", "more": "b", "label": "yes"}]


@pytest.fixture(scope="session")
def runs(tmp_path_factory, tiny_model) -> dict[str, Path]:
    """Task -> the run that knows it."""
    folder = tmp_path_factory.mktemp("served")
    universal = universal_run(folder / "universal", tiny_model)
    text = {"verbalizer": {}, "metric": "exact_match", "template": "{text} {more}\nSo:"}
    words = {"yes": "good word", "no": "bad"}
    return {
        "tone": universal,
        "colour": universal,
        "title": run_of(
            folder / "text", tiny_model, SoftPrompt(random(5, 1, 4, 32)), "title", rows=ROWS, **text
        ),
        "long": run_of(
            folder / "long", tiny_model, SoftPrompt(random(6, 1, 4, 32)), "long", rows=ROWS, verbalizer=words
        ),
        "mood": run_of(
            folder / "dept",
            tiny_model,
            DecomposedPrompt(random(7, 1, 3, 32), random(8, 1, 24, 2), random(9, 1, 2, 32)),
            "mood",
        ),
    }


@pytest.fixture(scope="session")
def options() -> ServeOptions:
    return ServeOptions(max_batch=4, max_tokens=8, max_rows=6, queue=12, max_bytes=2000, wait_ms=20)


@pytest.fixture(scope="session")
def engine(runs, options) -> Engine:
    return Engine(list(dict.fromkeys(runs.values())), options.max_batch, options.max_tokens)
