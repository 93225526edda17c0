"""Disk cache of the teachers' logits and hidden states.

Teachers are frozen, so in every epoch after the first their forward pass can be read from disk. A row's
outputs are those computed in its first batch, also after an interruption: a resumed run gives the same
result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mpt.data.batches import as_read, text_length
from mpt.models.backbone import Backbone
from mpt.types import Batch, Output, Row


class TeacherCache:
    """The outputs of each row with its task's teacher prompt: label logits or class scores, and hidden
    states.

    Args:
        folder: holds the files, (targets · V + classes + text length · D) float32 values per row.
        backbone: the frozen model.
        teachers: a prompt for each task.
        rows: the rows of each task, as for ``training_batches``.
        classes: whether the class words of rows are scored in place of their targets.
        layer: the layer before which the prompts enter.
    """

    def __init__(
        self,
        folder: Path,
        backbone: Backbone,
        teachers: Float[Array, "J P D"],
        rows: Sequence[Sequence[Row]],
        classes: bool = False,
        layer: int = 0,
    ):
        self._teach = _teach(backbone, teachers, layer)
        read = as_read([row for task in rows for row in task], classes)
        cells = max(text_length(row, backbone.layout) for row in read)
        targets = max(len(row.targets) for row in read)
        choices = max(len(row.choices) for row in read) if classes else 0
        vocab, width = backbone.embedding.shape

        def memory_map(name: str, *shape: int, dtype: type = np.float32) -> np.ndarray:
            file, shape = folder / f"{name}.npy", (len(read), *shape)
            if file.exists():
                return np.lib.format.open_memmap(file, mode="r+")
            return np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)

        folder.mkdir(parents=True, exist_ok=True)
        self._logits = memory_map("logits", targets, vocab)
        self._classes = memory_map("classes", choices) if choices else None
        self._text = memory_map("text", cells, width)
        two_stacks = backbone.layout == "encoder-decoder"
        # The decoder may be narrower than the encoder.
        width = jax.eval_shape(backbone.output_embeddings, jnp.zeros(0, jnp.int32)).shape[-1]
        self._targets = memory_map("targets", targets, width) if two_stacks else None
        self._known = memory_map("known", dtype=np.bool_)

    def attach(self, batch: Batch) -> Batch:
        """The batch with the teachers' outputs of its rows, which are computed if they are not stored yet.

        Args:
            batch: one batch, a stack of microbatches, or on a mesh a stack of stacks of shards.
        """
        if batch.numbers.ndim == 1:
            return batch._replace(taught=self._outputs(batch))
        attached = [
            self.attach(jax.tree.map(lambda array, i=i: array[i], batch)) for i in range(len(batch.numbers))
        ]
        return jax.tree.map(lambda *arrays: np.stack(arrays), *attached)

    def _outputs(self, batch: Batch) -> Output:
        """The stored outputs of a batch's rows, laid out like the batch."""
        if not self._known[batch.numbers].all():
            self._store(batch, self._teach(batch))
        labels = batch.targets.shape[1]
        text = np.zeros((batch.tokens.size, self._text.shape[-1]), np.float32)
        row, column = np.divmod(batch.cells[np.asarray(batch.text)], batch.grid.shape[1])
        text[np.asarray(batch.text)] = self._text[batch.numbers[row], column]
        hidden = (text,) if self._targets is None else (text, self._targets[batch.numbers, :labels])
        return Output(self._logits[batch.numbers, :labels], hidden, self._scores(batch))  # type: ignore[arg-type]

    def _scores(self, batch: Batch) -> Float[np.ndarray, "B C"] | None:
        """The stored class scores of a batch's rows."""
        if batch.classes is None or self._classes is None:
            return None
        scores = np.full(batch.classes.scale.shape, -np.inf, np.float32)
        stored = self._classes[batch.numbers, : scores.shape[1]]
        scores[:, : stored.shape[1]] = stored
        return np.where(batch.classes.real, scores, -np.inf)

    def _store(self, batch: Batch, output: Output) -> None:
        """Stores the outputs of rows that are not stored yet.

        A row is marked last, so that an interruption never leaves a mark without its outputs.
        """
        labels = batch.targets.shape[1]
        for index, number in enumerate(batch.numbers):
            if not self._known[number]:
                tokens = batch.grid[index][np.asarray(batch.filled[index])]
                tokens = tokens[np.asarray(batch.text)[tokens]]
                self._logits[number, :labels] = output.logits[index]
                if self._classes is not None and output.classes is not None:
                    scores = output.classes[index][: self._classes.shape[1]]
                    self._classes[number, : len(scores)] = scores
                self._text[number, : len(tokens)] = np.asarray(output.hidden[0])[tokens]
                if self._targets is not None:
                    self._targets[number, :labels] = output.hidden[1][index]
                self._known[number] = True


def _teach(backbone: Backbone, teachers: Float[Array, "J P D"], layer: int) -> Callable[[Batch], Output]:
    """The compiled forward pass of the teachers, from NumPy arrays to NumPy arrays."""
    graph, weights = nnx.split(backbone)

    @jax.jit
    def teach(weights: nnx.State, batch: Batch) -> Output:
        return nnx.merge(graph, weights)(batch, teachers, layer=layer)

    return lambda batch: jax.tree.map(np.asarray, teach(weights, jax.tree.map(jnp.asarray, batch)))
