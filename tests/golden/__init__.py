"""What torch, transformers and peft answer, kept as small files, so that mpt is held to it without them.

``python tests/make_golden.py`` writes the files from live runs; with ``--check``, and in the full set, it
compares them instead. ``references.py`` and ``naive.py`` have a function for each:

- ``facts.json``: versions, seeds, and of each tiny model its config and the shapes of its tensors;
- ``*.safetensors``: arrays named "case/quantity", where the case is mostly a family of models;
- ``adapters/``: prompts as peft saves them; ``exported/``: prompts of mpt's, as peft has read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

FOLDER = Path(__file__).parent
SEEDS = {"weights": 0, "prompts": 0, "directions": 1, "factors": 2, "adapters": 3, "parts": [0, 1, 2, 3]}


def kept(name: str, case: str) -> dict[str, np.ndarray]:
    """The quantities that a golden file holds of one case."""
    arrays = load_file(FOLDER / f"{name}.safetensors")
    return {path.removeprefix(f"{case}/"): a for path, a in arrays.items() if path.startswith(f"{case}/")}


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Random numbers that no version of numpy changes: ``RandomState`` is frozen."""
    return (scale * np.random.RandomState(seed).normal(size=shape)).astype(np.float32)


def normals(seed: int, shapes: Mapping[str, tuple[int, ...]], scale: float = 1.0) -> dict[str, np.ndarray]:
    """The same for many tensors, out of one stream, by their names' order."""
    stream = np.random.RandomState(seed)
    return {name: (scale * stream.normal(size=shapes[name])).astype(np.float32) for name in sorted(shapes)}
