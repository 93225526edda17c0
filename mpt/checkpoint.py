"""What a stopped run needs to go on, bit for bit: prompts, optimizer, data position, clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath


class Resumed(NamedTuple):
    """What a checkpoint holds."""

    step: int
    arrays: Any
    data: dict[str, Any]
    seconds: float


class Checkpoints:
    """The newest checkpoints of one training stage; saved in the background.

    The frozen backbone is never in them.
    """

    def __init__(self, folder: Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(epath.Path(folder.absolute()), options=options)

    def save(self, resumed: Resumed) -> None:
        """Saves; ``resumed.arrays`` is any pytree of arrays."""
        items = ocp.args.Composite(
            arrays=ocp.args.PyTreeSave(jax.tree.leaves(resumed.arrays)),
            position=ocp.args.JsonSave({"data": resumed.data, "seconds": resumed.seconds}),
        )
        self._manager.save(resumed.step, args=items)

    def restore(self, like: Any) -> Resumed | None:
        """The newest checkpoint with arrays in the structure of ``like``; None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        leaves, structure = jax.tree.flatten(like)
        restore = ocp.checkpoint_utils.construct_restore_args(leaves)
        items = ocp.args.Composite(
            arrays=ocp.args.PyTreeRestore(leaves, restore_args=restore), position=ocp.args.JsonRestore()
        )
        found = self._manager.restore(step, args=items)
        position = found["position"]
        arrays = jax.tree.unflatten(structure, found["arrays"])
        return Resumed(step, arrays, position["data"], position["seconds"])

    def close(self) -> None:
        """Waits for the saves under way."""
        self._manager.close()
