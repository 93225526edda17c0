"""SPoT's choice of a source prompt (Vu et al., ACL 2022, section 4)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float


def similarities(
    targets: Float[Array, "J P D"] | Float[np.ndarray, "J P D"],
    sources: Float[Array, "K Q D"] | Float[np.ndarray, "K Q D"],
) -> Float[np.ndarray, "J K"]:
    """How alike tasks are: the cosine of their prompts' mean vectors."""
    means = [np.asarray(prompts, np.float64).mean(axis=1) for prompts in (targets, sources)]
    target, source = (mean / np.linalg.norm(mean, axis=-1, keepdims=True) for mean in means)
    return target @ source.T
