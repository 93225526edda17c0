"""Prompts as plain arrays, with a README that shows how other libraries read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save_file

from mpt.cards.card import Card
from mpt.interop.readme import Reads, of_embeddings


def write_embeddings(
    folder: Path, prompts: Mapping[str, Float[np.ndarray, "P D"]], card: Card, reads: Reads
) -> None:
    """Writes each prompt as ``NAME.safetensors`` and ``NAME.npy``, and a README.md in the same folder."""
    for name, vectors in prompts.items():
        save_file({"prompt": vectors}, folder / f"{name}.safetensors")
        np.save(folder / f"{name}.npy", vectors)
    shapes = {name: str(list(vectors.shape)) for name, vectors in prompts.items()}
    (folder / "README.md").write_text(of_embeddings(shapes, card, reads), encoding="utf-8")
