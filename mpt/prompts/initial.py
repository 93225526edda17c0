"""Where a prompt starts: rows of the backbone's own embedding table."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

# ATTEMPT's choice (Asai et al., EMNLP 2022): the commonest words of a frequency-ordered vocabulary.
COMMON_ROWS = 5_000


def vocabulary_rows(vocab: int, length: int, seed: int) -> Int[np.ndarray, " P"]:
    """``length`` distinct token ids among the vocabulary's commonest."""
    rng = np.random.default_rng(seed)
    return rng.choice(min(COMMON_ROWS, vocab), size=length, replace=False)


def text_rows(ids: list[int], length: int) -> Int[np.ndarray, " P"]:
    """A text's token ids, repeated or cut to ``length``."""
    return np.resize(np.asarray(ids), length)
