"""Task identity: which task a text belongs to, from the frozen backbone's hidden states alone.

The features of a text are the mean of the final hidden states of its tokens, read without a prompt. Each
task is a Gaussian, and all have one covariance, so the most likely task is the one whose mean is nearest in
Mahalanobis distance: linear discriminant analysis. Its sums are updated task by task, without old examples
and without gradients (Hayes & Kanan, CVPR workshops 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load, save

from mpt.baselines import States
from mpt.data.task import Example
from mpt.data.tokenise import begun
from mpt.loading.hf import Pretrained
from mpt.rundir.directory import write_atomic
from mpt.system.paths import AnyPath
from mpt.types import Row

# Shrinkage of the covariance towards a multiple of the identity: there are far fewer texts than dimensions.
SHRINKAGE = 0.1


@dataclass(frozen=True)
class TaskStatistics:
    """Sufficient statistics of the tasks learned so far.

    Attributes:
        means: the mean features of each task's training texts.
        scatter: the sum, over all texts, of the outer product of the difference from their task's mean.
        rows: the number of texts.
    """

    means: Float[np.ndarray, "J D"]
    scatter: Float[np.ndarray, "D D"]
    rows: int

    @classmethod
    def empty(cls, width: int) -> TaskStatistics:
        """Empty statistics, for features of ``width`` numbers."""
        return cls(np.zeros((0, width)), np.zeros((width, width)), 0)

    def learned(self, features: Float[np.ndarray, "B D"]) -> TaskStatistics:
        """The statistics with one more task, from the features of its texts."""
        mean = features.mean(axis=0, dtype=np.float64)
        differences = features - mean
        return TaskStatistics(
            np.concatenate([self.means, mean[None]]),
            self.scatter + differences.T @ differences,
            self.rows + len(features),
        )

    def nearest(self, features: Float[np.ndarray, "B D"]) -> Int[np.ndarray, " B"]:
        """Index of the most likely task of each row, under a uniform prior."""
        covariance, width = self.scatter / self.rows, len(self.scatter)
        sphere = np.eye(width) * np.trace(covariance) / width
        precision = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * sphere)
        weights = self.means @ precision  # [J, D]
        return (features @ weights.T - 0.5 * np.sum(weights * self.means, axis=1)).argmax(axis=1)

    def save(self, file: AnyPath) -> None:
        tensors = {"means": self.means, "scatter": self.scatter, "rows": np.array(self.rows)}
        write_atomic(file, save(tensors))

    @classmethod
    def load(cls, file: AnyPath) -> TaskStatistics:
        tensors = load(file.read_bytes())
        return cls(tensors["means"], tensors["scatter"], int(tensors["rows"]))


def plain_text(example: Example) -> str:
    """An example's text without its template, whose words would reveal the task."""
    return " ".join(example.fields.values())


def features(pretrained: Pretrained, texts: Sequence[str], max_length: int) -> Float[np.ndarray, "B D"]:
    """The mean final hidden state of each text's first ``max_length`` tokens."""
    end: Any = pretrained.tokenizer.eos_token_id
    ids_of: Any = pretrained.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    texts_read = [begun(ids, pretrained.bos)[:max_length] for ids in ids_of]
    rows = [Row(ids or [end], [end]) for ids in texts_read]  # an empty text, too, is one token
    return States(pretrained)(rows)[:, 1]
