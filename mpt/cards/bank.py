"""A bank: a folder of prompts, here or in a remote store, from which new tasks start.

A prompt has three files, as in a run: NAME.safetensors, and its card as NAME.json and NAME.md. Names end with
a hash of the content, so that two prompts never have the same name, even if they are added at the same time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import fsspec
import numpy as np

from mpt.cards.card import Card
from mpt.cards.files import read_files
from mpt.errors import UserError, nearest, one_line, warn
from mpt.rundir.found import VECTORS, empty
from mpt.system.paths import PACKAGED, bank_path, check_store, is_remote, replace_atomic

T = TypeVar("T")


class Bank:
    """The prompts of a folder.

    Args:
        path: a local path, or a URL that fsspec knows, such as gs://bucket/bank or hf://owner/name;
            `packaged` is the bank that comes with mpt.
    """

    def __init__(self, path: str):
        check_store(path)
        self.path, self._remote = path.rstrip("/"), is_remote(path)
        with self._store_speaks():
            self._store, self._folder = fsspec.url_to_fs(bank_path(self.path))

    def names(self) -> list[str]:
        """The names of all prompts.

        Raises:
            UserError: there are none.
        """
        with self._store_speaks():
            there = self._store.exists(self._folder)
            files = self._store.ls(self._folder, detail=False) if there else []
        found = [str(file).rsplit("/", 1)[-1] for file in files if str(file).endswith(VECTORS)]
        if not found:
            raise UserError(empty(self.path))
        return sorted(name.removesuffix(VECTORS) for name in found)

    def add(self, name: str, files: Mapping[str, bytes]) -> tuple[str, bool]:
        """Adds a prompt.

        Args:
            files: its files by their endings, in the order to write them.

        Returns:
            Its name, which is ``name`` and a hash, and whether it is new here.

        Raises:
            UserError: it cannot be written, or the bank is the packaged one.
        """
        if self.path == PACKAGED:
            raise UserError(f"{PACKAGED}: this bank comes with mpt and is read-only; give another --bank")
        digest = hashlib.sha256(files[".json"] + files[VECTORS]).hexdigest()
        name = f"{re.sub('[^A-Za-z0-9_.-]+', '_', name)}-{digest[:8]}"
        with self._store_speaks():
            if self._store.exists(self._file(name, VECTORS)):
                return name, False
            for ending, content in files.items():
                self._write(self._file(name, ending), content)
        return name, True

    def read(self, name: str) -> tuple[Mapping[str, np.ndarray], Card]:
        """A prompt's tensors, and its card.

        Raises:
            UserError: there is none of that name, or it is damaged.
        """
        vectors, card = self._file(name, VECTORS), self._file(name, ".json")
        with self._store_speaks():
            if not self._store.exists(vectors):
                known = self.names()
                alike = [each for each in known if each.startswith(f"{name}-")]
                raise UserError(f"{self.path}: no prompt '{name}' in it; {nearest(name, alike or known)}")
            return read_files(
                f"{self.path}/{name}",
                lambda: self._store.cat_file(vectors),
                lambda: self._store.cat_file(card),
            )

    def each(self, read: Callable[[str], T]) -> Iterator[tuple[str, T]]:
        """The names of its prompts, and what is read of each; one that cannot be is reported and left out."""
        for name in self.names():
            try:
                yield name, read(name)
            except UserError as error:
                warn(str(error))

    def added(self, name: str) -> datetime:
        """The time when a prompt was added."""
        with self._store_speaks():
            return self._store.modified(self._file(name, VECTORS))

    def _file(self, name: str, ending: str) -> str:
        return f"{self._folder}/{name}{ending}"

    def _write(self, file: str, content: bytes) -> None:
        """Writes a file; a remote store shows it once it is complete."""
        if self._remote:
            self._store.pipe_file(file, content)
        else:
            replace_atomic(Path(file), content)

    @contextmanager
    def _store_speaks(self) -> Iterator[None]:
        """Turns a store's errors into one line: each store's client raises its own types."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and not self._remote and error.errno:
                raise UserError(f"{self.path}: {error.strerror}; give another folder with --bank") from None
            raise UserError(f"{self.path}: cannot be used: {one_line(error)}") from None
