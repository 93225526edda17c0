"""How alike prompts are: an order that brings like ones together, and a map of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from mpt.methods.spot import similarities


class Similarity(NamedTuple):
    """How alike M prompts are.

    Attributes:
        cosines: of the prompts' mean vectors (Vu et al. 2022, section 4).
        tree: SciPy's linkage: what is joined, step by step; empty for one prompt.
        places: each prompt's place in the plane.
        kept: which share of the spread the plane shows.
    """

    cosines: Float[np.ndarray, "M M"]
    tree: Float[np.ndarray, "joins 4"]
    places: Float[np.ndarray, "M 2"]
    kept: float

    @property
    def order(self) -> list[int]:
        """The prompts, like ones beside each other."""
        return leaves_list(self.tree).tolist() if len(self.tree) else [0]


def compared(prompts: Sequence[Float[np.ndarray, "_ D"]]) -> Similarity:
    """Prompts of one width, which may differ in length, side by side."""
    means = np.stack([prompt.astype(np.float64).mean(axis=0) for prompt in prompts])
    cosines = similarities(means[:, None], means[:, None])
    places, kept = plane(means / np.linalg.norm(means, axis=1, keepdims=True))
    return Similarity(cosines, clustered(cosines), places, kept)


def clustered(cosines: Float[np.ndarray, "M M"]) -> Float[np.ndarray, "joins 4"]:
    """Average linkage (UPGMA; Sokal & Michener 1958) on 1 - cosine, leaves in the best order.

    The order is that of Bar-Joseph et al. 2001: neighbours are as alike as the tree allows.
    """
    if len(cosines) == 1:
        return np.zeros((0, 4))
    distance = np.clip(1 - cosines, 0, None)
    np.fill_diagonal(distance, 0)
    return linkage(squareform(distance, checks=False), "average", optimal_ordering=True)


def plane(points: Float[np.ndarray, "M D"]) -> tuple[Float[np.ndarray, "M 2"], float]:
    """The plane that shows most of the points' spread, and the share of it that it shows.

    Principal components; of unit vectors that is classical scaling (Torgerson 1952) of the distances
    √(2 - 2 cos), as these are the distances between the points (Gower 1966).
    """
    centred = points - points.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    # An axis may point either way: its farthest point is at its positive end.
    left = left * np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    places = np.zeros((len(points), 2))
    places[:, : min(2, len(spread))] = (left * spread)[:, :2]
    total = float(np.square(spread).sum())
    return places, float(np.square(spread[:2]).sum()) / total if total else 1.0
