"""Tokenised rows on disk: made once for a source, a template and a tokenizer, then read in place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from mpt.data.task import Example, Task
from mpt.data.tokenise import encode, tokenizer_hash
from mpt.system.assets import cache_dir
from mpt.types import Layout, Row

FORMAT = 1  # of the files; another one makes them anew

# Rows that are tokenised at a time, and such chunks before worker processes are worth their start.
CHUNK, ALONE = 2048, 12


class StoredRows(Sequence[Row]):
    """Rows that stay on disk: the system keeps in memory what is read often.

    Args:
        folder: holds ``tokens``, all rows' inputs and targets end to end, ``rows``, each one's start,
            length of input, length of target and label, and ``choices.json``, which all rows share.
    """

    def __init__(self, folder: Path):
        # Plain arrays over the mapped files: a memmap's own slices cost ten times as much.
        self._tokens = np.asarray(np.memmap(folder / "tokens", np.int32, "r"))
        self._rows = np.asarray(np.memmap(folder / "rows", np.int64, "r")).reshape(-1, 4)
        self._choices = tuple(json.loads((folder / "choices.json").read_text()))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Row:  # type: ignore[override]
        start, inputs, targets, label = self._rows[place].tolist()
        middle = start + inputs
        return Row(self._tokens[start:middle], self._tokens[middle : middle + targets], self._choices, label)

    @property
    def labels(self) -> Int[np.ndarray, " R"]:
        return self._rows[:, 3]


def stored_rows(
    task: Task, split: str, tokenizer: PreTrainedTokenizerBase, max_length: int, layout: Layout
) -> StoredRows:
    """A split's rows, tokenised unless they are there already.

    They are kept in the cache folder, by what they depend on. Rows of a source that cannot tell its
    version are kept for as long as this process reads them.
    """
    tokenised = partial(encode, tokenizer=tokenizer, max_length=max_length, layout=layout)

    def write(folder: Path) -> None:
        _write(folder, chain.from_iterable(_in_chunks(tokenised, task.examples(split))))

    version = task.source.version(split)
    if version is None:
        with TemporaryDirectory() as scratch:
            write(Path(scratch))
            return StoredRows(Path(scratch))  # what is mapped outlives its name
    reads = [task.template, dict(task.verbalizer), task.label]
    depends = [FORMAT, version, split, reads, tokenizer_hash(tokenizer), max_length, layout]
    folder = cache_dir() / "rows" / hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            write(made := Path(scratch) / "made")
            with contextlib.suppress(OSError):  # another process was quicker
                os.rename(made, folder)
    return StoredRows(folder)


def _in_chunks(tokenised: partial[list[Row]], examples: Iterable[Example]) -> Iterator[list[Row]]:
    """The rows of many examples at a time, in order; by worker processes where there are very many."""
    examples = iter(examples)
    chunks = iter(lambda: list(islice(examples, CHUNK)), [])
    yield from map(tokenised, islice(chunks, ALONE))
    if more := list(islice(chunks, 1)):
        workers: Any = joblib.Parallel(n_jobs=-1, return_as="generator", pre_dispatch="2*n_jobs")
        yield from workers(joblib.delayed(tokenised)(chunk) for chunk in chain(more, chunks))


def _write(folder: Path, rows: Iterable[Row]) -> None:
    folder.mkdir(exist_ok=True)
    start, row = 0, None
    with (folder / "tokens").open("wb") as tokens, (folder / "rows").open("wb") as table:
        for row in rows:
            tokens.write(np.array([*row.inputs, *row.targets], np.int32).tobytes())
            lengths = len(row.inputs), len(row.targets)
            table.write(np.array([start, *lengths, row.label], np.int64).tobytes())
            start += sum(lengths)
    (folder / "choices.json").write_text(json.dumps(row.choices if row else ()))
