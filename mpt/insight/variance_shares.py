"""What prompts have in common and what is their own; and how much of the rank they use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Parts(NamedTuple):
    """Shares of the prompts' squared length.

    Attributes:
        common: of all prompts together.
        own: of each prompt.
        own_by_position: of all prompts together, at each position.
    """

    common: float
    own: Float[np.ndarray, " J"]
    own_by_position: Float[np.ndarray, " P"]


def common_and_own(prompts: Float[np.ndarray, "J P D"]) -> Parts:
    """Splits prompts P_j into their mean M and what is their own, P_j - M.

    The two are orthogonal over all prompts: Σ_j ‖P_j‖² = J ‖M‖² + Σ_j ‖P_j - M‖² (analysis of variance),
    so their shares add up to one. Of P_j = P* ∘ W_j, W_j being low-rank, the parts are P* ∘ W̄, which is
    shared, and P* ∘ (W_j - W̄), which is what the low-rank component adds. A factor that moves from P* to
    W changes neither.
    """
    prompts = prompts.astype(np.float64)
    own, whole = np.square(prompts - prompts.mean(axis=0)), np.square(prompts)
    by_position = own.sum(axis=(0, 2)) / whole.sum(axis=(0, 2))
    return Parts(
        common=1 - float(own.sum() / whole.sum()),
        own=own.sum(axis=(1, 2)) / whole.sum(axis=(1, 2)),
        own_by_position=by_position,
    )


def rank_shares(u: Float[np.ndarray, "J P R"], v: Float[np.ndarray, "J R D"]) -> Float[np.ndarray, "J R"]:
    """How much of each W_j = Σ_r u_jr v_jrᵀ its components carry, largest first.

    They are the squared singular values over their sum (Eckart & Young 1936): unlike u and v themselves,
    they do not depend on how W_j is written as a product.
    """
    rank = u.shape[-1]
    weights = np.einsum("jpr,jrd->jpd", u.astype(np.float64), v.astype(np.float64))
    squares = np.square(np.linalg.svd(weights, compute_uv=False))
    squares = np.pad(squares, [(0, 0), (0, max(0, rank - squares.shape[1]))])[:, :rank]
    return squares / squares.sum(axis=1, keepdims=True)
