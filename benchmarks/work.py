"""What both programs are given: the same model, real texts in the same batches, the same prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SMOLLM2 = "smollm2-135m"


def texts(tasks: Sequence[str], batch_size: int, batches: int, longest: int, model: str = SMOLLM2) -> list:
    """Batches of tokenised rows of real tasks, in turn, as (inputs, targets, choices, task)."""
    from mpt.catalog.library import find_task  # not at the top: a worker imports neither data nor models
    from mpt.data.tokenise import encode
    from mpt.loading.hf import load_pretrained

    pretrained = load_pretrained(model)
    layout, rng = pretrained.backbone.layout, np.random.default_rng(0)
    rows = []
    for name in tasks:
        examples = list(find_task(name).examples("train"))
        drawn = rng.permutation(len(examples))[: batch_size * batches]
        rows.append(encode([examples[i] for i in drawn], pretrained.tokenizer, longest, layout))
    made = []
    for number in range(batches):
        chosen = []
        for place in range(batch_size):
            task = place % len(tasks)
            row = rows[task][(number * batch_size + place) // len(tasks) % len(rows[task])]
            chosen.append((row.inputs, row.targets, row.choices, task))
        made.append(chosen)
    return made


def prompts(count: int, length: int, width: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(1).normal(size=(count, length, width))).astype(np.float32)


def write(folder: Path, batches: list, vectors: np.ndarray) -> dict[str, Any]:
    """Puts the work where both find it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "batches.json").write_text(json.dumps(batches))
    np.save(folder / "prompts.npy", vectors)
    return {"folder": str(folder)}


def describe(batches: list) -> dict[str, float]:
    """How long the rows are, and what share of a padded batch they fill."""
    lengths = [[len(inputs) + len(targets) - 1 for inputs, targets, *_ in batch] for batch in batches]
    padded = sum(len(batch) * max(batch) for batch in lengths)
    return {
        "mean tokens": float(np.mean(np.concatenate(lengths))),
        "longest": float(max(map(max, lengths))),
        "filled": sum(map(sum, lengths)) / padded,
    }


def gradient_difference(folder: Path) -> float:
    """The largest difference between both programs' prompt gradients, relative to their size.

    Raises:
        SystemExit: they do not compute the same thing, so their times must not be compared.
    """
    ours = np.load(folder / "mpt_gradient.npy")
    theirs = np.stack([np.load(folder / f"peft_gradient{task}.npy") for task in range(len(ours))])
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if difference > 1e-4:
        raise SystemExit(f"the gradients differ by {difference:.1e} of their size: nothing is compared")
    return difference
