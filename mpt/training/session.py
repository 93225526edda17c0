"""What surrounds the steps of a training stage: checkpoints, metrics, progress, signals, steps left out."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, TypeVar

import grain
import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from mpt.config.options import TrainConfig
from mpt.rundir.checkpoint import Resumed
from mpt.rundir.directory import RunDir
from mpt.system.paths import run_title
from mpt.system.processes import is_multiprocess
from mpt.system.progress import Progress
from mpt.system.signals import Stopped, deferred
from mpt.training.losses import Term
from mpt.training.nonfinite import NonFiniteSteps
from mpt.training.step import Stepped
from mpt.types import Batch

Arrays = TypeVar("Arrays")


class Session:
    """A stage's training from its newest checkpoint, if there is one, to its last step.

    A context manager, once ``resume`` has been called.

    Args:
        run: where metrics and checkpoints go, to the folder ``stage``.
        config: steps, and how often to save.
        tasks: the name of each prompt's task.
        batches: one for each step.
        prepare: completes each batch before its step.
        best: the state of the best validation pass is kept, beside the newest.
    """

    def __init__(
        self,
        run: RunDir,
        stage: str,
        config: TrainConfig,
        tasks: Sequence[str],
        batches: grain.MapDataset[Batch],
        prepare: Callable[[Batch], Batch] | None = None,
        best: bool = False,
    ):
        self._run, self._stage, self._config, self._tasks = run, stage, config, tasks
        self._title = f"{run_title(run.path)}: {stage}"
        self._checkpoints, self._metrics = run.checkpoints(stage), run.metrics(stage)
        self._reader = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
        self._prepare, self._best = prepare, best
        self._open = ExitStack()
        self._began = 0.0
        self._score: float | None = None
        self.step, self.seconds = 0, 0.0

    def resume(self, arrays: Arrays) -> Arrays:
        """The arrays of the newest checkpoint; ``arrays`` themselves, where there is none."""
        if resumed := self._checkpoints.restore(arrays):
            self.step, arrays, position, self.seconds = resumed
            self._reader.set_state(position)
        self._metrics.rewind(self.step)
        left_out = sum("bad_steps" in line for line in self._metrics.read())
        self._nonfinite = NonFiniteSteps(self._tasks, self._config.bad_steps, left_out)
        return arrays

    def __enter__(self) -> Session:
        self._open.enter_context(closing(self._checkpoints))
        self._open.enter_context(self._metrics)
        self._progress = self._open.enter_context(Progress(self._title, self._config.steps, self.step))
        self._asked = self._open.enter_context(deferred())
        return self

    def __exit__(self, *raised: Any) -> None:
        self._open.__exit__(*raised)

    def batches(self) -> Iterator[Batch]:
        """The batch of each step that is left; ``step`` is its number."""
        for step in range(self.step + 1, self._config.steps + 1):
            self.step, self._began, self._score = step, time.perf_counter(), None
            batch = next(self._reader)
            yield self._prepare(batch) if self._prepare else batch

    def record(self, done: Stepped) -> None:
        """Writes down a step's losses and speed, and counts it if it was left out.

        Raises:
            UserError: too many steps in a row are not finite.
        """
        by_prompt = jax.device_get(done.by_prompt)
        losses = {name: float(value) for name, value in done.losses.items()} | by_task(self._tasks, by_prompt)
        took = time.perf_counter() - self._began
        self.seconds += took
        speed = self._config.batch_size / took
        left_out = self._nonfinite.count(self.step, None if done.finite else by_prompt.sum)
        self._metrics.write(self.step, {**losses, **left_out, "rows_per_second": speed})
        self._progress.step(f"loss {losses['loss']:.3f}, {speed:.1f} rows/s")
        if self._nonfinite.too_many:
            # The update before the first of them may be what spoilt the state.
            good = self._checkpoints.forget_after(self.step - self._nonfinite.in_a_row - 1)
            raise self._nonfinite.error(f"{self._run.path}/{self._stage}", self.step, good)

    def due(self, every: int) -> bool:
        """Whether a validation pass follows this step: one in ``every``, and the last."""
        return self.step % every == 0 or self.step == self._config.steps

    def record_validation(self, figures: Mapping[str, float]) -> None:
        """Writes down the figures of a validation pass; the mean of them tells which is the best."""
        self._metrics.write(self.step, figures)
        if self._best and self.step:
            self._score = float(np.mean(list(figures.values())))

    def save(self, arrays: Any) -> None:
        """Saves the state behind a step, if it is due, and stops there, if that was asked for.

        Raises:
            UserError: a checkpoint cannot be written.
            Stopped: as SIGTERM asks; ``KeyboardInterrupt``, as Ctrl-C does.
        """
        stop, last = _agreed(self._asked()), self.step == self._config.steps
        due = self.step % self._config.save_every == 0 or last or stop or self._score is not None
        if due and not self._nonfinite.in_a_row:
            self._metrics.flush()
            state = Resumed(self.step, arrays, self._reader.get_state(), self.seconds)
            self._checkpoints.save(state, self._score)
        if stop == signal.SIGINT:
            raise KeyboardInterrupt
        if stop:
            raise Stopped(
                f"{self._title}: stopped at step {self.step} of {self._config.steps} as asked (SIGTERM); "
                "the same command goes on from there"
            )

    def best(self, arrays: Arrays) -> Arrays:
        """The arrays as they were at the best validation pass, where that is asked for and there was one."""
        resumed = self._checkpoints.restore(arrays, best=True) if self._best else None
        return resumed.arrays if resumed else arrays


def by_task(tasks: Sequence[str], losses: Term) -> dict[str, float]:
    """The task loss of each task that has rows in a step, where there are several tasks.

    >>> term = Term(np.array([2.0, 3.0, 0.0]), np.array([1.0, 2.0, 0.0]))
    >>> by_task(["tone", "colour", "mood"], term)
    {'task tone': 2.0, 'task colour': 1.5}
    """
    totals: dict[str, np.ndarray] = {}
    for task, one in zip(tasks, np.stack(losses, axis=1)):
        totals[task] = totals.get(task, np.zeros(2)) + one
    if len(totals) < 2:
        return {}
    return {f"task {task}": float(total / weight) for task, (total, weight) in totals.items() if weight}


def _agreed(asked: int) -> int:
    """What any process has been asked for: all of them stop, and save, at the same step."""
    return int(np.max(process_allgather(np.int32(asked)))) if is_multiprocess() else asked
