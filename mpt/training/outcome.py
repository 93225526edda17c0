"""Says when a training stage has learnt nothing, so that no figure passes for a trained prompt's."""

from __future__ import annotations

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
            f"{stage}: loss or gradient was not finite in any of its {steps} steps, so nothing was learnt; "
            "lower the learning rate or look at the rows, with another --out"
        )


def warn_of_rising(stage: str, losses: Sequence[float]) -> None:
    """Warns if the mean loss of a stage's last fifth of steps is above that of its first fifth."""
    part = max(1, len(losses) // 5)
    first, last = float(np.mean(losses[:part] or [0.0])), float(np.mean(losses[-part:] or [0.0]))
    if last > first:
        warn(f"{stage}: the loss rose, from {first:.3f} to {last:.3f}; try a lower learning rate")


def warn_of_few_rows(stage: str, rows: int, batch_size: int) -> None:
    """Warns if a step has more rows than there are."""
    if rows < batch_size:
        warn(f"{stage}: {rows} training rows, fewer than the {batch_size} of a step, which reads some twice")
