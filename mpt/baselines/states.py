"""The frozen model's own hidden states of texts, read without a prompt, and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mpt.inference.evaluate import BATCH, in_batches
from mpt.loading.hf import Pretrained
from mpt.models.backbone import Backbone
from mpt.prompts.pooled import final_states
from mpt.sharding import replicate
from mpt.types import Batch, Row

Read = Callable[[Batch, Backbone], Float[Array, "B *states D"]]


class States:
    """The states of texts; each text is run once, since the draws of several seeds are asked the same rows.

    Args:
        read: what is read of each row, see ``mpt.prompts.pooled``.
    """

    def __init__(self, pretrained: Pretrained, read: Read = final_states):
        self._pretrained, self._read = pretrained, read
        self._known: dict[tuple[int, ...], Float[np.ndarray, "*states D"]] = {}

    def __call__(self, rows: Sequence[Row]) -> Float[np.ndarray, "R *states D"]:
        """The states of each row's input."""
        texts = [tuple(map(int, row.inputs)) for row in rows]
        self._run([text for text in dict.fromkeys(texts) if text not in self._known])
        return np.stack([self._known[text] for text in texts])

    def _run(self, texts: Sequence[tuple[int, ...]]) -> None:
        backbone = self._pretrained.backbone
        end: Any = self._pretrained.tokenizer.eos_token_id
        rows = [Row(text, [end]) for text in texts]  # a last target is not read
        graph, state = nnx.split(backbone)
        for indices, batch in in_batches(rows, [0] * len(rows), BATCH, backbone.layout):
            states = np.asarray(_read(self._read, graph, state, batch))
            self._known |= {texts[index]: states[place] for place, index in enumerate(indices)}


@jax.jit(static_argnums=(0, 1))
def _read(read: Read, graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, "B *states D"]:
    return replicate(read(batch, nnx.merge(graph, state)))
