"""The candidate prompts of a search, and their loss on their held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mpt.adaptation.held_out import Scores, class_scores, text_losses
from mpt.adaptation.splits import Split
from mpt.prompts.prompted import Prompted
from mpt.types import Row


class Candidate(NamedTuple):
    """A candidate prompt of a search.

    Attributes:
        factor: the factor on its learning rates.
    """

    factor: float
    split: Split


def held_out_losses(
    model: Prompted, candidates: Sequence[Candidate], factor: float
) -> Float[np.ndarray, " N"]:
    """The losses of one rate's prompts on their held-out rows, in nats."""
    if candidates[0].split.held_out[0].choices:
        return held_out_scores(model, candidates, factor).tempered_losses()
    return text_losses(model, *_held_out(candidates, factor))


def held_out_scores(model: Prompted, candidates: Sequence[Candidate], factor: float) -> Scores:
    """The class scores of all held-out rows, each by the rate's prompt that was not trained on it."""
    return class_scores(model, *_held_out(candidates, factor))


def _held_out(candidates: Sequence[Candidate], factor: float) -> tuple[list[Row], list[int]]:
    pairs = [
        (row, index)
        for index, candidate in enumerate(candidates)
        if candidate.factor == factor
        for row in candidate.split.held_out
    ]
    return [row for row, _ in pairs], [index for _, index in pairs]
