"""PEFT's prompt tuning of one task: steps on request, and the accuracy on validation rows in between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duel import answer
from peft_worker import load, tensors, tuned

ROWS = 32  # in a batch of validation rows


def prepare(model: str, folder: str, rate: float, batch: int, seed: int):
    """The model with one prompt, and what trains or evaluates it.

    Args:
        folder: has `rows.json`, training rows of input and target, validation rows of input, class words and
            label, all in tokens; and `prompts.npy`, the initial vectors.
        rate: Adam's learning rate.
        batch: training rows of a step.
    """
    given = json.loads((Path(folder) / "rows.json").read_text())
    prompted, (weight,) = tuned(load(model), np.load(Path(folder) / "prompts.npy"), ["task"])
    optimizer, order = torch.optim.Adam([weight], lr=rate), shuffled(len(given["train"]), seed)

    def train(steps: int) -> dict[str, Any]:
        for _ in range(steps):
            rows = [given["train"][next(order)] for _ in range(batch)]
            optimizer.zero_grad()
            prompted(**tensors(rows, joint=True)).loss.backward()
            optimizer.step()
        return {}

    @torch.no_grad()
    def log_p(rows: list) -> list[torch.Tensor]:
        """The log-probabilities of all tokens at each target of rows of (inputs, targets)."""
        found = []
        for first in range(0, len(rows), ROWS):
            some = rows[first : first + ROWS]
            arrays = tensors(some, joint=True)
            arrays.pop("labels")
            logits = prompted(**arrays).logits[:, weight.shape[0] :]
            for of_row, (inputs, targets) in zip(logits, some):
                at = len(inputs) - 1
                found.append(of_row[at : at + len(targets)].log_softmax(-1))
        return found

    def scores(rows: list) -> list[list[float]]:
        """The log-probability of each class word of rows of (inputs, words, label)."""
        if all(len({word[0] for word in words}) == len(words) for _, words, _ in rows):
            # First tokens tell the words apart: each text is read once.
            texts = log_p([(inputs, words[0][:1]) for inputs, words, _ in rows])
            return [[float(text[0, word[0]]) for word in words] for text, (_, words, _) in zip(texts, rows)]
        each = iter(log_p([(inputs, word) for inputs, words, _ in rows for word in words]))
        return [[float(sum(next(each)[range(len(word)), word])) for word in words] for _, words, _ in rows]

    def accuracy() -> float:
        """The share of validation rows whose own class word has the highest log-probability."""
        rows = given["validation"]
        return float(np.mean([np.argmax(each) == row[2] for each, row in zip(scores(rows), rows)]))

    def work(job: str, steps: int = 0) -> dict[str, Any]:
        return train(steps) if job == "train" else {"accuracy": accuracy()}

    return work


def shuffled(count: int, seed: int) -> Iterator[int]:
    """The numbers below ``count`` in one random order after another."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(count).tolist()


if __name__ == "__main__":
    answer(prepare)
