"""The options that make the commands of the documentation's pages small, and its Python.

They are apart from the pages, as every command that the pages' tests run reads them: nothing here takes time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

FEW = ["--teachers.epochs", "0", "--teachers.steps", "1", "--universal.epochs", "0", "--universal.steps", "1"]
TINY = ["--model.name", "smollm2-135m", "--tasks", "reviews.yaml", "my_task.yaml"]
# Options after a command that begins with these words; the longest beginning counts.
OPTIONS: dict[str, list[str]] = {
    "adapt": ["--train.steps", "1", "--test-rows", "20", "--no-baselines"],
    "bank search": ["--steps", "1", "--shots", "2"],
    "compare experiment": [
        *("--pretrain.tasks", "products", "bbc", "--targets", "movies", "--tune.tasks", "editorials"),
        *(
            "--methods",
            "hard prompt",
            "LoRA",
            "--shots",
            "2",
            "--adapt.seeds",
            "0",
            "--adapt.test-rows",
            "20",
        ),
        *("--adapt.train.steps", "1", "--tune.factors", "1", "--tune.rows", "20"),
    ],
    "compare published": [
        *("--targets", "movies", "--adapt.shots", "2", "--adapt.seeds", "0", "--adapt.test-rows", "20"),
        *("--methods", "largest class", "counting words", "--reference", "counting words"),
    ],
    "compare transfer": [
        *("--targets", "movies", "--shots", "2", "--adapt.seeds", "0", "--adapt.test-rows", "20"),
        *("--methods", "largest class", "counting words", "--reference", "counting words"),
    ],
    "continual": ["--tasks", "editorials", "bbc", "--train.steps", "1", "--test-rows", "8"],
    "inspect": ["--rows", "4"],
    "launch": FEW,
    "plan": ["--backbone", "t5-small", "--tries", "1"],
    "pretrain": FEW,
    "pretrain mpt_source": [*FEW, *TINY, "--teachers.batch-size", "8", "--vectors.length", "4"],
    "pretrain universal": [
        *FEW,
        *TINY,
        "--universal.wordings",
        "1",
        "--vectors.length",
        "4",
        "--gain-rows",
        "0",
        # The stand-in's tokenizer makes more tokens of a wording.
        *("--max-length", "256"),
    ],
    "quickstart": [
        *("--pretrain.teachers.steps", "1", "--pretrain.universal.steps", "1"),
        *("--adapt.train.steps", "1", "--adapt.test-rows", "20"),
    ],
}
# Of Python's functions; what a call has goes before it.
ONE: dict[str, Any] = {"epochs": 0, "steps": 1}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "pretrain": {"teachers": ONE, "universal": ONE},
    "adapt": {"train": ONE, "test_rows": 20, "baselines": False},
    "compare": {"pretrain": {"teachers": ONE, "universal": ONE}, "adapt": {"train": ONE, "test_rows": 20}},
    "continual": {"train": ONE, "test_rows": 8},
}


def make_small() -> None:
    """Gives mpt's functions options that make them small, in a process that runs a page's Python."""
    import mpt

    for name, options in FUNCTIONS.items():
        setattr(mpt, name, partial(getattr(mpt, name), **options))


def with_options(words: list[str]) -> list[str]:
    """An mpt command with the options that make it small."""
    beginnings = [start for start in OPTIONS if words[: len(start.split())] == start.split()]
    return words + (OPTIONS[max(beginnings, key=len)] if beginnings else [])
