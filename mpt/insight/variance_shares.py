"""How much of the prompts is common to all and how much is specific to each; and how much rank they use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class VarianceShares(NamedTuple):
    """Fractions of the prompts' squared norm.

    Attributes:
        common: the fraction of all prompts that is common to them.
        specific: the fraction of each prompt that is specific to it.
        specific_by_position: the fraction of all prompts that is specific, at each position.
    """

    common: float
    specific: Float[np.ndarray, " J"]
    specific_by_position: Float[np.ndarray, " P"]


def common_and_specific(prompts: Float[np.ndarray, "J P D"]) -> VarianceShares:
    """Splits prompts P_j into their mean M, which is common, and their specific parts P_j - M.

    The two are orthogonal over all prompts: Σ_j ‖P_j‖² = J ‖M‖² + Σ_j ‖P_j - M‖² (analysis of variance),
    so their shares add up to one. If P_j = P* ∘ W_j with a low-rank W_j, the common part is P* ∘ W̄, and the
    specific part P* ∘ (W_j - W̄) is what the low-rank component adds. Moving a factor from P* to W changes
    neither.
    """
    prompts = prompts.astype(np.float64)
    specific, total = np.square(prompts - prompts.mean(axis=0)), np.square(prompts)
    return VarianceShares(
        common=1 - float(specific.sum() / total.sum()),
        specific=specific.sum(axis=(1, 2)) / total.sum(axis=(1, 2)),
        specific_by_position=specific.sum(axis=(0, 2)) / total.sum(axis=(0, 2)),
    )


def rank_shares(u: Float[np.ndarray, "J P R"], v: Float[np.ndarray, "J R D"]) -> Float[np.ndarray, "J R"]:
    """The share of each component in W_j = Σ_r u_jr v_jrᵀ, largest first.

    These are the squared singular values over their sum (Eckart & Young 1936). Unlike u and v themselves,
    they do not depend on how W_j is written as a product.
    """
    rank = u.shape[-1]
    weights = np.einsum("jpr,jrd->jpd", u.astype(np.float64), v.astype(np.float64))
    squares = np.square(np.linalg.svd(weights, compute_uv=False))
    squares = np.pad(squares, [(0, 0), (0, max(0, rank - squares.shape[1]))])[:, :rank]
    return squares / squares.sum(axis=1, keepdims=True)
