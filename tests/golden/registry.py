"""The golden files' functions, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray | torch.Tensor]
Answer = Callable[[str], Arrays]
Write = Callable[[Path], None]

GOLDENS: dict[str, Write] = {}  # each writes its files into a folder


def files(write: Write) -> Write:
    """A golden of several files."""
    GOLDENS[write.__name__] = write
    return write


def arrays(*cases: str) -> Callable[[Answer], Answer]:
    """A golden of one file, with arrays for each of the cases."""

    def golden(answer: Answer) -> Answer:
        def write(folder: Path) -> None:
            found = {f"{case}/{name}": a for case in cases for name, a in answer(case).items()}
            whole = {path: torch.as_tensor(a).detach().contiguous().numpy() for path, a in found.items()}
            save_file(whole, folder / f"{answer.__name__}.safetensors")

        GOLDENS[answer.__name__] = write
        return answer

    return golden
