"""What a stopped run needs to go on, bit for bit: prompts, optimizer, data position, clock.

There is no state of a random generator among it: a step draws nothing, and what is random before it (the
starts, which rows make a batch) is a function of the config's seeds and the step.
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
    """What a checkpoint holds."""

    step: int
    arrays: Any
    data: dict[str, Any]
    seconds: float


class Checkpoints:
    """The newest checkpoints of one training stage, and the best; saved in the background.

    The frozen backbone is never in them. Each has checksums, so that one whose bytes have changed is
    found out. A save takes its name when it is whole: what a crash leaves behind is cleared away.
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
        """Saves; ``resumed.arrays`` is any pytree of arrays.

        Args:
            score: the higher, the better; the best is kept.

        Raises:
            UserError: this one, or the one before, cannot be written.
        """
        leaves = jax.tree.leaves(resumed.arrays)
        position = {"data": resumed.data, "seconds": resumed.seconds}
        items = ocp.args.Composite(
            arrays=ocp.args.PyTreeSave(leaves),
            position=ocp.args.JsonSave(position | {"checksum": _checksum(resumed.step, leaves, position)}),
        )
        metrics = None if score is None else {"score": score}
        try:
            self._manager.save(resumed.step, args=items, metrics=metrics)
        except Exception as error:  # whatever the storage below raises
            raise self._failure(error) from error

    def restore(self, like: Any, best: bool = False) -> Resumed | None:
        """The newest checkpoint that is whole, or the ``best``; None if there is none at all.

        Damaged ones that were looked at before it are removed.

        Args:
            like: arrays in the structure and the shardings to restore to.

        Raises:
            UserError: there are checkpoints, and all are damaged.
        """
        self._manager.wait_until_finished()
        steps = sorted(self._manager.all_steps(), reverse=True)
        if best and (first := self._manager.best_step()) is not None:
            steps.sort(key=lambda step: step != first)
        for place, step in enumerate(steps):
            try:
                resumed = self._read(step, like)
            except Exception as error:  # damaged files make Orbax and TensorStore raise all sorts
                warn(f"{self._folder / str(step)}: this checkpoint is damaged ({first_line(error)[:100]})")
                continue
            for damaged in steps[:place]:
                self._manager.delete(damaged)
            if place:
                warn(f"{self._folder}: damaged checkpoints are removed; the one of step {step} is taken")
            return resumed
        if steps:
            raise UserError(
                f"{self._folder}: all checkpoints are damaged; remove it to start this stage again"
            )
        return None

    def forget_after(self, step: int) -> int | None:
        """Removes later checkpoints than ``step``'s, and returns the newest one's step."""
        self._manager.wait_until_finished()
        for later in [found for found in self._manager.all_steps() if found > step]:
            self._manager.delete(later)
        return self._manager.latest_step()

    def close(self) -> None:
        """Waits for the saves under way.

        Raises:
            UserError: the last one could not be written.
        """
        try:
            self._manager.close()
        except Exception as error:
            if not self._failed:  # or it has been told
                raise self._failure(error) from error

    def _read(self, step: int, like: Any) -> Resumed:
        leaves, structure = jax.tree.flatten(like)
        restore = ocp.checkpoint_utils.construct_restore_args(leaves)
        items = ocp.args.Composite(
            arrays=ocp.args.PyTreeRestore(leaves, restore_args=restore), position=ocp.args.JsonRestore()
        )
        with redirect_stderr(io.StringIO()):  # where one file is damaged, the readers of others cry out
            found = self._manager.restore(step, args=items)
        arrays, position = found["arrays"], found["position"]
        if position.pop("checksum") != _checksum(step, arrays, position):
            raise ValueError("its checksum is another")
        return Resumed(step, jax.tree.unflatten(structure, arrays), position["data"], position["seconds"])

    def _failure(self, error: Exception) -> UserError:
        self._failed = True
        whole = ocp.utils.checkpoint_steps(self._folder)  # in a bucket, others may lie beside them
        last = f"the last good one is of step {max(whole)}" if whole else "there is none yet"
        return UserError(
            f"{self._folder}: a checkpoint cannot be written ({first_line(error)}); {last}. "
            "With room on the disk, the same command goes on"
        )


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]


def _drop_damaged_scores(folder: AnyPath) -> None:
    """Orbax reads them all at once, and would stop at a damaged one; the state beside it may be whole."""
    for file in folder.glob("*/metrics/metrics"):
        try:
            float(_score(json.loads(file.read_bytes())))
        except (ValueError, KeyError, TypeError):
            warn(f"{file}: damaged; this checkpoint does not count as the best")
            file.unlink()


def _checksum(step: int, leaves: list[Array], position: dict[str, Any]) -> int:
    """Of all that a checkpoint holds; what it was saved from and is restored to may be other meshes."""
    sums = [int(value) for value in _sums(leaves)]
    return zlib.crc32(json.dumps([step, sums, position], sort_keys=True).encode())


@jax.jit
def _sums(leaves: list[Array]) -> list[UInt32[Array, ""]]:
    """Each array's bits: the sum, modulo 2^32, of its elements times odd numbers.

    A changed element always shows; sums of whole numbers do not depend on an order, so nor on a sharding.
    """

    def added(leaf: Array) -> UInt32[Array, ""]:
        bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32).ravel()
        return jnp.sum(bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

    return [added(leaf) for leaf in leaves]
