"""The tensors of a GGUF file; they stay quantised on disk until they are read, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import ReaderTensor, dequantize
from transformers import PreTrainedConfig

from mpt.errors import UserError, one_line
from mpt.loading.gguf.architectures import Architecture, parts


class Stored(NamedTuple):
    """A tensor as it lies in the file; of one that holds many experts' matrices, one of them."""

    whole: ReaderTensor
    expert: int | None = None

    @property
    def kind(self) -> str:
        return parts(self.whole.name)[1]

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(int(size) for size in reversed(self.whole.shape))
        return shape if self.expert is None else shape[1:]

    def read(self) -> np.ndarray:
        """Its values in float32."""
        data = self.whole.data if self.expert is None else self.whole.data[self.expert]
        return dequantize(data, self.whole.tensor_type)


class GGUFTensors:
    """The tensors of a GGUF file in float32, under Hugging Face names and layouts."""

    def __init__(
        self,
        path: Path,
        weights: Iterable[ReaderTensor],
        config: PreTrainedConfig,
        architecture: Architecture,
    ):
        self._path, self._config, self._architecture = path, config, architecture
        self._stored: dict[str, Stored] = {}
        for whole in weights:
            name = architecture.renamed(whole.name, config.num_hidden_layers)
            experts = range(int(whole.shape[-1])) if "{}" in name else [None]
            self._stored |= {name.format(expert): Stored(whole, expert) for expert in experts}

    def __getitem__(self, name: str) -> np.ndarray:
        stored = self._stored[name]
        try:
            array = stored.read()
        except (NotImplementedError, ValueError) as error:
            raise UserError(
                f"{self._path}: '{stored.whole.name}' cannot be read ({one_line(error)})"
            ) from None
        return self._arranged(array, stored)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        stored = self._stored[name]
        stand_in = np.broadcast_to(np.int8(-1), stored.shape)  # of which there is a decay's logarithm, too
        return self._arranged(stand_in, stored).shape

    def _arranged(self, array: np.ndarray, stored: Stored) -> np.ndarray:
        """A tensor as a Hugging Face folder has it.

        Raises:
            UserError: its shape does not suit the config.
        """
        try:
            return self._architecture.arranged(array, stored.kind, self._config)
        except ValueError as error:
            raise UserError(
                f"{self._path}: '{stored.whole.name}' does not suit its fields ({one_line(error)})"
            ) from None

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._path
