"""What the teachers say of each row, computed once and kept on disk.

Teachers are frozen: where rows come back, reading their outputs saves the teachers' whole pass. A row's
outputs are those of its first batch, also after an interruption, so a resumed run stays the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mpt.data.batches import Sizes
from mpt.models.backbone import Backbone
from mpt.types import Batch, Output, Row


class TeacherCache:
    """Label logits and final hidden states of every row behind its own task's teacher.

    Args:
        folder: where they are kept: (targets · vocab + length · width) float32 numbers per row.
        backbone: the frozen model.
        teachers: the prompts, one per task.
        rows: the rows of each task, as ``training_batches`` is given them.
    """

    def __init__(
        self, folder: Path, backbone: Backbone, teachers: Float[Array, "J P D"], rows: Sequence[Sequence[Row]]
    ):
        self._teach = _teach(backbone, teachers)
        everything = [row for task in rows for row in task]
        sizes = [Sizes.of([row], backbone.layout) for row in everything]
        cells, targets = max(size.cells for size in sizes), max(size.targets for size in sizes)
        vocab, width = backbone.embedding.shape

        def stored(name: str, *shape: int, dtype: type = np.float32) -> np.ndarray:
            file, shape = folder / f"{name}.npy", (len(everything), *shape)
            if file.exists():
                return np.lib.format.open_memmap(file, mode="r+")
            return np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)

        folder.mkdir(parents=True, exist_ok=True)
        self._logits = stored("logits", targets, vocab)
        self._text = stored("text", cells, width)
        both = backbone.layout == "encoder-decoder"
        self._targets = stored("targets", targets, width) if both else None
        self._known = stored("known", dtype=np.bool_)

    def attach(self, batch: Batch) -> Batch:
        """A stack of batches, or of stacks of them, with the teachers' outputs of its rows."""
        if batch.numbers.ndim == 1:
            return batch._replace(taught=self._taught(batch))
        parts = [
            self.attach(jax.tree.map(lambda array, i=i: array[i], batch)) for i in range(len(batch.numbers))
        ]
        return jax.tree.map(lambda *arrays: np.stack(arrays), *parts)

    def _taught(self, batch: Batch) -> Output:
        if not self._known[batch.numbers].all():
            self._keep(batch, self._teach(batch))
        width = batch.targets.shape[1]
        text = np.zeros((batch.tokens.size, self._text.shape[-1]), np.float32)
        row, place = np.divmod(batch.cells[np.asarray(batch.text)], batch.grid.shape[1])
        text[np.asarray(batch.text)] = self._text[batch.numbers[row], place]
        hidden = (text,) if self._targets is None else (text, self._targets[batch.numbers, :width])
        return Output(self._logits[batch.numbers, :width], hidden)  # type: ignore[arg-type]

    def _keep(self, batch: Batch, output: Output) -> None:
        """Stores the outputs of the rows that are new; ``known`` last, so that it is never ahead."""
        width = batch.targets.shape[1]
        for place, number in enumerate(batch.numbers):
            if not self._known[number]:
                tokens = batch.grid[place][np.asarray(batch.filled[place])]
                self._logits[number, :width] = output.logits[place]
                self._text[number, : len(tokens)] = np.asarray(output.hidden[0])[tokens]
                if self._targets is not None:
                    self._targets[number, :width] = output.hidden[1][place]
                self._known[number] = True


def _teach(backbone: Backbone, teachers: Float[Array, "J P D"]):
    graph, weights = nnx.split(backbone)

    @jax.jit
    def teach(weights: nnx.State, batch: Batch) -> Output:
        return nnx.merge(graph, weights)(batch, teachers)

    return lambda batch: jax.tree.map(np.asarray, teach(weights, jax.tree.map(jnp.asarray, batch)))
