"""The frozen model's own hidden states of texts, read without a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mpt.inference.evaluate import BATCH, in_batches
from mpt.loading.hf import Pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.sharding import replicate
from mpt.types import Batch, Row


class States:
    """The mean of a text's final hidden states, and that of its last token.

    An encoder-decoder's are its encoder's.
    Every text is run once, and remembered: the draws of several seeds are asked the same rows.
    """

    def __init__(self, pretrained: Pretrained):
        self._pretrained = pretrained
        self._known: dict[tuple[int, ...], Float[np.ndarray, "2 D"]] = {}

    def __call__(self, rows: Sequence[Row]) -> Float[np.ndarray, "R 2 D"]:
        """The states of each row's input."""
        texts = [tuple(map(int, row.inputs)) for row in rows]
        self._run([text for text in dict.fromkeys(texts) if text not in self._known])
        return np.stack([self._known[text] for text in texts])

    def _run(self, texts: Sequence[tuple[int, ...]]) -> None:
        backbone = self._pretrained.backbone
        end: Any = self._pretrained.tokenizer.eos_token_id
        rows = [Row(text, [end]) for text in texts]  # a last target is not read
        nothing = SoftPrompt(jnp.zeros((1, 0, backbone.embedding.shape[1])))
        graph, state = nnx.split(Prompted(backbone, nothing))
        for indices, batch in in_batches(rows, [0] * len(rows), BATCH, backbone.layout):
            pooled = np.asarray(_pooled(graph, state, batch))
            self._known |= {texts[index]: pooled[place] for place, index in enumerate(indices)}


@jax.jit(static_argnums=0)
def _pooled(graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, "B 2 D"]:
    """Each row's mean over the states of its text, and the state of its last token."""
    states = nnx.merge(graph, state)(batch).hidden[0].astype(jnp.float32)
    spread = jnp.take(states, jnp.asarray(batch.grid), axis=0, mode="fill", fill_value=0.0)  # [B, T, D]
    length = batch.filled.sum(axis=1)
    mean = spread.sum(axis=1) / length[:, None].astype(jnp.float32)
    last = jnp.take_along_axis(spread, length[:, None, None] - 1, axis=1)[:, 0]
    return replicate(jnp.stack([mean, last], axis=1))
