"""What surrounds the steps of a training stage: checkpoints, metrics, progress, signals, non-finite steps."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from types import TracebackType

import grain
import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from mpt.errors import warn
from mpt.rundir.checkpoint import Resumed
from mpt.rundir.directory import RunDir
from mpt.sharding import mesh_name, sizes_in_use
from mpt.system.processes import is_multiprocess, is_primary
from mpt.system.progress import Progress
from mpt.system.said import say
from mpt.system.signals import Stopped, deferred
from mpt.training.losses import Term
from mpt.training.nonfinite import NonFiniteSteps
from mpt.training.outcome import refuse_all_left_out, warn_of_rising
from mpt.training.step import Stepped, TrainState
from mpt.types import Batch

SCORE = "score"  # the name of the figure by which evaluations are ranked


class Session:
    """A training stage from its newest checkpoint, or from its start, to its last step.

    A context manager: entering restores the newest checkpoint and drops the metrics written after it; leaving
    waits for checkpoints that are being written, and closes all files.

    Args:
        run: the run directory.
        stage: the folder in it where metrics and checkpoints go.
        state: parameters and optimizer state before the first step.
        batches: a batch for each step.
        tasks: the task name of each prompt.
        steps: number of steps of the stage.
        batch_size: rows of a step.
        max_nonfinite: the run ends after this many non-finite steps in a row.

    Attributes:
        state: parameters and optimizer state after the last recorded step.
        step: number of the current step, or of the last one done.
        seconds: time spent in steps, also before an interruption.
    """

    def __init__(
        self,
        run: RunDir,
        stage: str,
        state: TrainState,
        batches: grain.MapDataset[Batch],
        tasks: Sequence[str],
        *,
        steps: int,
        batch_size: int,
        max_nonfinite: int,
    ):
        self._checkpoints, self._metrics = run.checkpoints(stage), run.metrics(stage)
        self._folder, self._title = f"{run.name}/{stage}", f"{run.title}: {stage}"
        self._reader = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
        self._tasks, self._steps, self._batch_size = tasks, steps, batch_size
        self._max_nonfinite = max_nonfinite
        self._resources = ExitStack()
        self.state, self.step, self.seconds = state, 0, 0.0

    def __enter__(self) -> Session:
        if resumed := self._checkpoints.restore(self.state):
            self.step, self.state, self.seconds = resumed.step, resumed.arrays, resumed.seconds
            self._reader.set_state(resumed.data)
            self._tell_of_another_mesh(resumed.mesh)
        self._metrics.rewind(self.step)
        nonfinite = sum("bad_steps" in line for line in self._metrics.read())
        self._nonfinite = NonFiniteSteps(self._tasks, self._max_nonfinite, nonfinite)
        self._resources.enter_context(closing(self._checkpoints))
        self._resources.enter_context(self._metrics)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, trace)

    def batches(self) -> Iterator[Batch]:
        """The batch of each remaining step. From here on, signals are handled at the end of a step."""
        self._progress = self._resources.enter_context(Progress(self._title, self._steps, self.step))
        self._signal: Callable[[], int] = self._resources.enter_context(deferred())
        if self.step < self._steps:
            say(f"{self._title}: compiling the first step")
        for step in range(self.step + 1, self._steps + 1):
            self.step, self._began = step, time.perf_counter()
            yield next(self._reader)

    def record(self, done: Stepped) -> None:
        """Keeps the state after a step, and records the step's losses and speed.

        Raises:
            UserError: too many steps in a row are not finite.
        """
        self.state = TrainState(done.trainable, done.opt_state)
        by_prompt = jax.device_get(done.by_prompt)
        losses = {name: float(value) for name, value in done.losses.items()} | by_task(self._tasks, by_prompt)
        took = time.perf_counter() - self._began
        self.seconds, speed = self.seconds + took, self._batch_size / took
        nonfinite = self._nonfinite.count(self.step, None if done.finite else by_prompt.sum)
        self.write({**losses, **nonfinite, "rows_per_second": speed})
        self._progress.step(f"loss {losses['loss']:.3f}, {speed:.1f} rows/s")
        if self._nonfinite.too_many:
            # The update before the first of them may have damaged the state.
            kept = self._checkpoints.forget_after(self.step - self._nonfinite.in_a_row - 1)
            raise self._nonfinite.error(self._folder, self.step, kept)

    def write(self, figures: Mapping[str, float]) -> None:
        """Adds a line of metrics for this step."""
        self._metrics.write(self.step, figures)

    def scores(self) -> list[float]:
        """The score of each evaluation so far, also of those before an interruption."""
        self._metrics.flush()
        return [line[SCORE] for line in self._metrics.read() if SCORE in line]

    def start_was_best(self) -> bool:
        """Whether no evaluation was as good as that before the first step, which has no checkpoint."""
        start, *later = self.scores() or [-np.inf]
        return start > max(later, default=-np.inf)

    def is_due(self, every: int) -> bool:
        """Whether something that comes every so many steps, and after the last one, comes after this step."""
        return self.step % every == 0 or self.step == self._steps

    def save(self, score: float | None) -> None:
        """Saves a checkpoint, unless this step was not finite.

        Args:
            score: ranks the checkpoint for ``best_state``: the higher, the better.

        Raises:
            UserError: the checkpoint, or the one before, cannot be written.
        """
        if self._nonfinite.in_a_row:
            return
        self._metrics.flush()
        position = self._reader.get_state()
        resumed = Resumed(self.step, self.state, position, self.seconds, sizes_in_use())
        self._checkpoints.save(resumed, score)

    def _tell_of_another_mesh(self, before: Mapping[str, int] | None) -> None:
        if before and before != sizes_in_use() and is_primary():
            warn(
                f"{self._folder}: resumes from step {self.step} on a mesh of {mesh_name(sizes_in_use())}, "
                f"where it was {mesh_name(before)}: with the same rows, but sums are rounded in a different "
                "order, so that its prompts are not bit for bit those of the other mesh"
            )

    def stop_signal(self) -> int:
        """The signal that any process has received, 0 for none: all of them stop at the same step."""
        received = self._signal()
        return int(np.max(process_allgather(np.int32(received)))) if is_multiprocess() else received

    def stopped(self, number: int) -> BaseException:
        """What to raise after a signal: ``KeyboardInterrupt`` for Ctrl-C, ``Stopped`` for SIGTERM."""
        if number == signal.SIGINT:
            return KeyboardInterrupt()
        return Stopped(
            f"{self._title}: stopped at step {self.step} of {self._steps} as requested (SIGTERM); "
            "the same command resumes from there"
        )

    def conclude(self) -> None:
        """Warns if the stage has learned nothing.

        Raises:
            UserError: not one of its steps was finite.
        """
        refuse_all_left_out(self._folder, self.step, self._nonfinite.total)
        if is_primary():
            self._metrics.flush()
            warn_of_rising(self._folder, [line["loss"] for line in self._metrics.read() if "loss" in line])

    def best_state(self) -> TrainState:
        """The state of the checkpoint with the highest score; of the newest one if none has a score."""
        resumed = self._checkpoints.restore(self.state, best=True)
        return resumed.arrays if resumed else self.state


def by_task(tasks: Sequence[str], losses: Term) -> dict[str, float]:
    """The task loss of each task that has rows in a step, where there are several tasks.

    >>> term = Term(np.array([2.0, 3.0, 0.0]), np.array([1.0, 2.0, 0.0]))
    >>> by_task(["tone", "colour", "mood"], term)
    {'task tone': 2.0, 'task colour': 1.5}
    """
    totals: dict[str, np.ndarray] = {}
    for task, sum_and_weight in zip(tasks, np.stack(losses, axis=1)):
        totals[task] = totals.get(task, np.zeros(2)) + sum_and_weight
    if len(totals) < 2:
        return {}
    return {f"task {task}": float(total / weight) for task, (total, weight) in totals.items() if weight}
