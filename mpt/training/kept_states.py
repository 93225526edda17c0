"""Hidden states of the training rows before the layer of a late prompt: computed once, kept in memory.

They do not depend on what is trained, so that with them a step runs only the later layers, forward and
backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mpt.data.batches import Sizes, collate, read_length
from mpt.models.backbone import Backbone
from mpt.sharding import replicate
from mpt.types import Batch, Layout, Row

ROWS = 32  # in a batch while the states are computed


class KeptStates:
    """The states of every row before a layer.

    Args:
        backbone: the frozen model.
        rows: the rows of each task, as for ``training_batches``.
        layer: the layer before which the prompts enter.
        prompt_length: number of positions of the prompts.
        classes: whether the class words of rows are scored in place of their targets.
    """

    def __init__(
        self,
        backbone: Backbone,
        rows: Sequence[Sequence[Row]],
        layer: int,
        prompt_length: int,
        classes: bool = False,
    ):
        graph, weights = nnx.split(backbone)

        @jax.jit
        def lower(weights: nnx.State, batch: Batch) -> Float[Array, "N D"]:
            return replicate(nnx.merge(graph, weights).lower(batch, layer, prompt_length))

        flat = [row for task in rows for row in task]
        lengths = [read_length(row, backbone.layout, classes) for row in flat]
        self._starts = np.cumsum([0, *lengths])
        self._states = np.empty((sum(lengths), backbone.embedding.shape[-1]), backbone.dtype)
        for first, batch in _batches(flat, backbone.layout, classes):
            count = min(len(flat) - first, ROWS)
            states = np.asarray(lower(weights, batch))
            # The texts lie end to end in a batch, as they do here.
            begin, end = self._starts[first], self._starts[first + count]
            self._states[begin:end] = states[: end - begin]

    def attach(self, batch: Batch) -> Batch:
        """The batch with the states of its tokens.

        Args:
            batch: one batch, a stack of microbatches, or on a mesh a stack of stacks of shards.
        """
        row, column = np.divmod(batch.cells, batch.grid.shape[-1])
        is_text = row < batch.grid.shape[-2]
        numbers = np.take_along_axis(np.asarray(batch.numbers), np.where(is_text, row, 0), axis=-1)
        # The states of padding are never used, so any values will do.
        places = np.where(is_text, self._starts[numbers] + column, 0)
        return batch._replace(states=self._states[places])  # type: ignore[arg-type]


def _batches(rows: Sequence[Row], layout: Layout, classes: bool) -> Iterator[tuple[int, Batch]]:
    """All rows in batches of one size, with the index of each one's first; copies fill the last."""
    chunks = {
        first: [*rows[first : first + ROWS], *[rows[first]] * max(first + ROWS - len(rows), 0)]
        for first in range(0, len(rows), ROWS)
    }
    each = [Sizes.of(chunk, layout, classes) for chunk in chunks.values()]
    sizes = jax.tree.map(lambda *sizes: max(sizes), *each)
    for first, chunk in chunks.items():
        yield first, collate(chunk, [0] * ROWS, layout, sizes)
