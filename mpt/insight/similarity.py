"""Similarity of prompts: an order that puts similar ones next to each other, and a map in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from mpt.methods.spot import similarities


class Similarity(NamedTuple):
    """How similar M prompts are.

    Attributes:
        cosines: the cosines between the prompts' mean vectors (Vu et al. 2022, section 4).
        tree: SciPy's linkage of a hierarchical clustering; empty for one prompt.
        coordinates: the coordinates of each prompt in the plane.
        explained: the fraction of the variance that the plane explains.
    """

    cosines: Float[np.ndarray, "M M"]
    tree: Float[np.ndarray, "joins 4"]
    coordinates: Float[np.ndarray, "M 2"]
    explained: float

    @property
    def order(self) -> list[int]:
        """The indices of the prompts, in an order that puts similar ones next to each other."""
        return leaves_list(self.tree).tolist() if len(self.tree) else [0]


def compared(prompts: Sequence[Float[np.ndarray, "_ D"]]) -> Similarity:
    """Compares prompts of one width, which may differ in length."""
    means = np.stack([prompt.astype(np.float64).mean(axis=0) for prompt in prompts])
    cosines = similarities(means[:, None], means[:, None])
    coordinates, explained = plane(means / np.linalg.norm(means, axis=1, keepdims=True))
    return Similarity(cosines, clustered(cosines), coordinates, explained)


def clustered(cosines: Float[np.ndarray, "M M"]) -> Float[np.ndarray, "joins 4"]:
    """Average linkage (UPGMA; Sokal & Michener 1958) on 1 - cosine, with the leaves in the best order.

    The order is that of Bar-Joseph et al. 2001: neighbours are as similar as the tree allows.
    """
    if len(cosines) == 1:
        return np.zeros((0, 4))
    distance = np.clip(1 - cosines, 0, None)
    np.fill_diagonal(distance, 0)
    return linkage(squareform(distance, checks=False), "average", optimal_ordering=True)


def plane(points: Float[np.ndarray, "M D"]) -> tuple[Float[np.ndarray, "M 2"], float]:
    """Coordinates in the plane that explains most of the points' variance, and the fraction that it explains.

    Principal components; of unit vectors that is classical scaling (Torgerson 1952) of the distances
    √(2 - 2 cos), as these are the distances between the points (Gower 1966).
    """
    centred = points - points.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    # The sign of an axis is arbitrary; here its farthest point is on the positive side.
    left = left * np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    coordinates = np.zeros((len(points), 2))
    coordinates[:, : min(2, len(spread))] = (left * spread)[:, :2]
    total = float(np.square(spread).sum())
    return coordinates, float(np.square(spread[:2]).sum()) / total if total else 1.0
