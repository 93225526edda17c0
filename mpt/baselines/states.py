"""The frozen model's own hidden states of texts, read without a prompt, and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mpt.inference.evaluate import BATCH, in_batches
from mpt.loading.hf import Pretrained
from mpt.prompts.pooled import bare_states
from mpt.sharding import replicate
from mpt.types import Batch, Row


class States:
    """The three states of texts that ``mpt.prompts.pooled.bare_states`` reads.

    Each text is run once, whoever asks: linear probes beside a prompt and as a baseline, for several seeds.
    """

    def __init__(self, pretrained: Pretrained):
        self._pretrained = pretrained
        self._known: dict[tuple[int, ...], Float[np.ndarray, "3 D"]] = {}

    def __call__(self, rows: Sequence[Row]) -> Float[np.ndarray, "R 3 D"]:
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
            states = np.asarray(_read(graph, state, batch))
            self._known |= {texts[index]: states[place] for place, index in enumerate(indices)}


@jax.jit(static_argnums=0)
def _read(graph: nnx.GraphDef, state: nnx.State, batch: Batch) -> Float[Array, "B 3 D"]:
    return replicate(bare_states(batch, nnx.merge(graph, state)))
