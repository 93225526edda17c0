"""Checkpoints, with all that a run needs to resume bit for bit: prompts, optimizer, data position, clock.

They hold no state of a random generator: a step draws no random numbers, and whatever is random before it
(initial values, the rows of a batch) is a function of the config's seeds and the step.
"""

from __future__ import annotations

import io
import json
import zlib
from contextlib import redirect_stderr
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import Array, UInt32
from orbax.checkpoint import checkpoint_managers as managers

from mpt.errors import UserError, first_line, warn
from mpt.system.paths import AnyPath, is_remote


class Resumed(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        step: the number of steps done.
        arrays: a pytree with the prompts and the optimizer's state.
        data: the position in the training data.
        seconds: the training time so far.
        mesh: the length of each axis of the mesh that it was computed on; older checkpoints do not have it.
    """

    step: int
    arrays: Any
    data: dict[str, Any]
    seconds: float
    mesh: dict[str, int] | None = None


class Checkpoints:
    """The latest checkpoints of a training stage and the best one, saved in the background.

    They never contain the frozen backbone. Each has a checksum, so that damage is detected. A checkpoint gets
    its name once it is complete; what a crash leaves is removed.

    Args:
        folder: the folder of the checkpoints.
        keep: how many of the latest checkpoints are kept.
    """

    def __init__(self, folder: AnyPath, keep: int = 2):
        best = managers.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(keep), best]),
            best_fn=_score,
            cleanup_tmp_directories=True,
        )
        self._folder = folder
        _drop_damaged_scores(folder)
        root = folder if is_remote(folder) else folder.absolute()
        self._manager = ocp.CheckpointManager(epath.Path(root), options=options)
        self._failed = False

    def save(self, resumed: Resumed, score: float | None = None) -> None:
        """Saves a checkpoint in the background.

        Args:
            score: if given, the checkpoint with the highest score is kept.

        Raises:
            UserError: this checkpoint, or the one before, cannot be written.
        """
        leaves = jax.tree.leaves(resumed.arrays)
        position = {"data": resumed.data, "seconds": resumed.seconds}
        if resumed.mesh:
            position["mesh"] = resumed.mesh
        items = ocp.args.Composite(
            arrays=ocp.args.PyTreeSave(leaves),
            position=ocp.args.JsonSave(position | {"checksum": _checksum(resumed.step, leaves, position)}),
        )
        metrics = None if score is None else {"score": score}
        try:
            self._manager.save(resumed.step, args=items, metrics=metrics)
        except Exception as error:  # of many types, from Orbax and the storage
            raise self._failure(error) from error

    def restore(self, like: Any, best: bool = False) -> Resumed | None:
        """Restores the latest checkpoint that is not damaged; None if there are no checkpoints.

        Damaged checkpoints that were tried before it are removed.

        Args:
            like: arrays with the structure and the shardings to restore to.
            best: tries the checkpoint with the highest score first.

        Raises:
            UserError: all checkpoints are damaged.
        """
        self._manager.wait_until_finished()
        steps = sorted(self._manager.all_steps(), reverse=True)
        if best and (best_step := self._manager.best_step()) is not None:
            steps.sort(key=lambda step: step != best_step)
        for tried, step in enumerate(steps):
            try:
                resumed = self._read(step, like)
            except Exception as error:  # damaged files make Orbax and TensorStore raise many types
                warn(f"{self._folder / str(step)}: this checkpoint is damaged ({first_line(error)[:100]})")
                continue
            for damaged in steps[:tried]:
                self._manager.delete(damaged)
            if tried:
                warn(f"{self._folder}: damaged checkpoints are removed; the one of step {step} is taken")
            return resumed
        if steps:
            raise UserError(
                f"{self._folder}: all checkpoints are damaged; remove it to start this stage again"
            )
        return None

    def forget_after(self, step: int) -> int | None:
        """Removes all checkpoints after ``step``, and returns the step of the latest one that is left."""
        self._manager.wait_until_finished()
        for later in [saved for saved in self._manager.all_steps() if saved > step]:
            self._manager.delete(later)
        return self._manager.latest_step()

    def close(self) -> None:
        """Waits for saves that are still running.

        Raises:
            UserError: the last checkpoint could not be written.
        """
        try:
            self._manager.close()
        except Exception as error:
            if not self._failed:  # otherwise it has been reported already
                raise self._failure(error) from error

    def _read(self, step: int, like: Any) -> Resumed:
        leaves, structure = jax.tree.flatten(like)
        restore = ocp.checkpoint_utils.construct_restore_args(leaves)
        items = ocp.args.Composite(
            arrays=ocp.args.PyTreeRestore(leaves, restore_args=restore), position=ocp.args.JsonRestore()
        )
        with redirect_stderr(io.StringIO()):  # if a file is damaged, the readers of the others print errors
            restored = self._manager.restore(step, args=items)
        arrays, position = restored["arrays"], restored["position"]
        if position.pop("checksum") != _checksum(step, arrays, position):
            raise ValueError("its checksum is another")
        return Resumed(step, jax.tree.unflatten(structure, arrays), **position)

    def _failure(self, error: Exception) -> UserError:
        self._failed = True
        complete = ocp.utils.checkpoint_steps(self._folder)  # a bucket may also hold incomplete ones
        last = f"the last good one is of step {max(complete)}" if complete else "there is none yet"
        return UserError(
            f"{self._folder}: a checkpoint cannot be written ({first_line(error)}); {last}. "
            "With free disk space, the same command resumes"
        )


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]


def _drop_damaged_scores(folder: AnyPath) -> None:
    """Deletes damaged scores, at which Orbax would fail although the checkpoint itself may be intact."""
    for file in folder.glob("*/metrics/metrics"):
        try:
            float(_score(json.loads(file.read_bytes())))
        except (ValueError, KeyError, TypeError):
            warn(f"{file}: damaged; this checkpoint does not count as the best")
            file.unlink()


def _checksum(step: int, leaves: list[Array], position: dict[str, Any]) -> int:
    """A checksum of everything in a checkpoint, which does not depend on the mesh."""
    sums = [int(value) for value in _sums(leaves)]
    return zlib.crc32(json.dumps([step, sums, position], sort_keys=True).encode())


@jax.jit
def _sums(leaves: list[Array]) -> list[UInt32[Array, ""]]:
    """A checksum of each array: the sum, modulo 2^32, of its elements' bits times odd numbers.

    It changes whenever a single element does. A sum of integers does not depend on their order, and so not on
    the sharding.
    """

    def weighted_sum(leaf: Array) -> UInt32[Array, ""]:
        bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32).ravel()
        return jnp.sum(bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

    return [weighted_sum(leaf) for leaf in leaves]
