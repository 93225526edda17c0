"""What an inspection finds of a run's prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mpt.insight.positions import Ablation
from mpt.insight.similarity import Similarity
from mpt.insight.variance_shares import Parts


class Subject(NamedTuple):
    """One prompt of a run.

    Attributes:
        name: what tells it from the run's others.
        task: the name of its task.
        file: where in ``prompts/`` it is.
        vectors: the prompt itself.
    """

    name: str
    task: str
    file: str
    vectors: Float[np.ndarray, "P D"]


class Words(NamedTuple):
    """The tokens nearest to each vector of a prompt, best first, spelled out.

    Attributes:
        near: by cosine; ``cosines`` has the cosine of the first.
        read_out: by the logits behind the final norm.
    """

    near: Sequence[Sequence[str]]
    cosines: Sequence[float]
    read_out: Sequence[Sequence[str]]


class Study(NamedTuple):
    """A prompt at work on rows of its task.

    Attributes:
        subject: its place among the findings' subjects.
        rows: in words: how many, and of which split.
        ablation: what each vector is worth.
        attention: from where -> the share of attention that goes to each vector, by layer.
    """

    subject: int
    rows: str
    ablation: Ablation
    attention: Mapping[str, Float[np.ndarray, "layers P"]]


class Transfer(NamedTuple):
    """How each prompt does on each task.

    Attributes:
        targets: the tasks, each with its metric.
        scores: a line to each subject.
    """

    targets: Sequence[str]
    scores: Float[np.ndarray, "M T"]


@dataclass
class Findings:
    """All that is known of a run's prompts; what rows are needed for may be missing.

    Attributes:
        run: what was inspected, and ``backbone`` what its prompts are for.
        words: of each subject.
        norms: the length of each token's embedding.
        parts: of the prompts of each file that has several, or factors.
        ranks: how much each component carries, of each prompt of the file; where prompts are factored.
        missing: what was left out, and why, in a line each.
    """

    run: str
    backbone: str
    subjects: Sequence[Subject]
    words: Sequence[Words]
    norms: Float[np.ndarray, " V"]
    similarity: Similarity
    parts: Mapping[str, Parts]
    ranks: Mapping[str, Float[np.ndarray, "J R"]]
    studies: list[Study] = field(default_factory=list)
    transfer: Transfer | None = None
    missing: list[str] = field(default_factory=list)

    def lengths(self, subject: Subject) -> Float[np.ndarray, " P"]:
        """The length of each of a prompt's vectors, in that of a typical (median) token."""
        return np.linalg.norm(subject.vectors, axis=1) / float(np.median(self.norms))
