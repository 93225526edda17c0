"""The results of inspecting a run's prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mpt.insight.positions import Ablation
from mpt.insight.similarity import Similarity
from mpt.insight.variance_shares import VarianceShares


class Subject(NamedTuple):
    """One prompt of a run.

    Attributes:
        name: a name that is unique in the run.
        task: the name of its task.
        file: the name of its file in ``prompts/``.
        vectors: the prompt itself.
    """

    name: str
    task: str
    file: str
    vectors: Float[np.ndarray, "P D"]


class Words(NamedTuple):
    """The tokens nearest to each vector of a prompt as text, best first.

    Attributes:
        near: the nearest tokens by cosine with their embeddings.
        cosines: the cosine of the first of them.
        read_out: the nearest tokens by the logits after the final norm (the logit lens).
    """

    near: Sequence[Sequence[str]]
    cosines: Sequence[float]
    read_out: Sequence[Sequence[str]]


class Study(NamedTuple):
    """Measurements of a prompt on rows of its task.

    Attributes:
        subject: the index of the prompt among the findings' subjects.
        rows: a description of the rows: how many, and from which split.
        ablation: the effect of leaving out each vector.
        attention: the fraction of attention on each vector in each layer, by the source of the attention.
    """

    subject: int
    rows: str
    ablation: Ablation
    attention: Mapping[str, Float[np.ndarray, "layers P"]]


class Transfer(NamedTuple):
    """The score of each prompt on each task.

    Attributes:
        targets: the names of the tasks, each with its metric.
        scores: the scores, with a line for each subject and a column for each task.
    """

    targets: Sequence[str]
    scores: Float[np.ndarray, "M T"]


@dataclass
class Findings:
    """All results of an inspection; those that need labelled rows may be missing.

    Attributes:
        run: the run that was inspected.
        backbone: the name of its backbone.
        subjects: the run's prompts.
        words: the nearest tokens of each subject.
        norms: the norm of each token's embedding.
        similarity: how similar the prompts are.
        variance_shares: the common and specific shares of the prompts, for each file with several prompts or
            with factors.
        ranks: the share of each low-rank component, for each prompt of a file with factors.
        studies: measurements of prompts on rows of their tasks.
        transfer: the score of each prompt on each task.
        missing: what was left out and why, one line each.
    """

    run: str
    backbone: str
    subjects: Sequence[Subject]
    words: Sequence[Words]
    norms: Float[np.ndarray, " V"]
    similarity: Similarity
    variance_shares: Mapping[str, VarianceShares]
    ranks: Mapping[str, Float[np.ndarray, "J R"]]
    studies: list[Study] = field(default_factory=list)
    transfer: Transfer | None = None
    missing: list[str] = field(default_factory=list)

    def lengths(self, subject: Subject) -> Float[np.ndarray, " P"]:
        """The norm of each vector of a prompt, relative to the median norm of the tokens' embeddings."""
        return np.linalg.norm(subject.vectors, axis=1) / float(np.median(self.norms))
