"""Reports that a stage has learned nothing, so that its figures are not taken for a trained prompt's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpt.errors import UserError, warn


def refuse_all_left_out(stage: str, steps: int, left_out: int) -> None:
    """Checks that a stage has had a step whose loss and gradient were finite.

    Args:
        stage: the folder of the stage.

    Raises:
        UserError: it has had none.
    """
    if steps and left_out >= steps:
        raise UserError(
            f"{stage}: loss or gradient was not finite in any of its {steps} steps, so nothing was learned; "
            "lower the learning rate or check the rows, and give another --out"
        )


def warn_of_rising(stage: str, losses: Sequence[float]) -> None:
    """Warns if a stage's loss rose by more than chance: its last steps' mean is above that of its first ones.

    Steps have different rows, so the means of the first and the last fifth of the steps (at least four each)
    are compared by Welch's t-test (t above 2). A rise of less than a hundredth is ignored.
    """
    part = min(max(len(losses) // 5, 4), len(losses) // 2)
    if not part:
        return
    first, last = np.asarray(losses[:part]), np.asarray(losses[-part:])
    of_few = 1 if part > 1 else 0  # a sample's variance; one loss has none
    chance = math.sqrt((first.var(ddof=of_few) + last.var(ddof=of_few)) / part)
    if last.mean() - first.mean() > max(2 * chance, first.mean() / 100):
        warn(
            f"{stage}: the loss rose, from {first.mean():.3f} to {last.mean():.3f}; try a lower learning rate"
        )


def warn_of_few_rows(tasks: Sequence[str], rows: int, batch_size: int) -> None:
    """Warns if a step has more rows than there are: with the same text for every method that uses them."""
    if rows < batch_size:
        of = f" of {', '.join(dict.fromkeys(tasks))}" if tasks else ""
        warn(f"{rows} training rows{of}, fewer than the {batch_size} of a step, which reads some twice")
