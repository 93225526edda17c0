"""The programs that a run compiles: stages of one model, one task and one size of batches share theirs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
from flax import nnx

from mpt.data.mixture import SHORT
from mpt.plan.stages import Planned

# Programs of a training stage whose batches differ in size, those of a search more, and of an evaluation.
LONG, SEARCH, EVALUATION = 3, 3, 2
LOOKS = 4  # programs with which a search evaluates held-out rows, and baselines are scored
SCORING = 0.45  # of the time to compile a training step: what its forward pass alone takes, as measured


class Programs(NamedTuple):
    """How many programs a run compiles.

    Attributes:
        training: those of training steps.
        scoring: those that answer rows.
    """

    training: int
    scoring: int

    @property
    def steps(self) -> float:
        """How many training steps take as long to compile."""
        return self.training + SCORING * self.scoring


def programs(planned: Sequence[Planned], evaluated: Sequence[float | None]) -> Programs:
    """The programs of a run.

    Args:
        planned: its training stages.
        evaluated: the FLOPs of its evaluations; 0 where no model is asked.
    """
    training: dict[Hashable, int] = {}
    for one in planned:
        count = 1 if one.stage.steps is not None and one.stage.steps <= SHORT else LONG
        count += SEARCH if one.searched != 0 else 0
        training[_key(one)] = max(count, training.get(_key(one), 0))
    shared = len(planned) - len(training)
    evaluations = max(sum(flops != 0 for flops in evaluated) - shared, 0)
    looks = LOOKS * sum(one.searched != 0 for one in planned)
    return Programs(sum(training.values()), EVALUATION * evaluations + looks)


def _key(planned: Planned) -> Hashable:
    """What is equal where two stages share their programs."""
    stage = planned.stage
    graph, state = nnx.split(stage.model)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state))
    tasks = tuple(reading.task.name for reading in planned.readings)
    return graph, shapes, tasks, stage.objective, stage.train.batch_size, stage.train.microbatches
