"""Tokenised rows on disk: written once per source, template and tokenizer, then read through memory maps."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from mpt.data.batches import check_texts
from mpt.data.task import Example, Scoring, Task
from mpt.data.text.opening import Opening
from mpt.data.tokenise import check_ids, encode, tokenizer_hash, warn_of_cut
from mpt.system.assets import cache_dir
from mpt.system.said import say
from mpt.types import Layout, Row

FORMAT = 2  # version of the files; a new version writes them again

CHUNK = 2048  # rows that are tokenised at a time
SERIAL_CHUNKS = 12  # chunks after which starting worker processes pays off


class StoredRows(Sequence[Row]):
    """Tokenised rows in memory-mapped files: the operating system keeps in memory what is read often.

    Args:
        folder: holds ``tokens``, the inputs and targets of all rows end to end; ``rows``, the offset, input
            length, target length, label and lost tokens of each row; and ``choices.json``, the choices of all
            rows.
        scoring: how the choices are scored.
    """

    def __init__(self, folder: Path, scoring: Scoring = "sum"):
        self._scoring: Scoring = scoring
        # Plain arrays over the mapped files, because slicing a memmap costs ten times as much.
        self._tokens = np.asarray(np.memmap(folder / "tokens", np.int32, "r"))
        self._rows = np.asarray(np.memmap(folder / "rows", np.int64, "r")).reshape(-1, 5)
        self._choices = tuple(json.loads((folder / "choices.json").read_text()))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        start, inputs, targets, label, lost = self._rows[index].tolist()
        middle = start + inputs
        targets = self._tokens[middle : middle + targets]
        scoring = self._scoring
        return Row(self._tokens[start:middle], targets, self._choices, label, scoring=scoring, lost=lost)

    def without_words(self) -> StoredRows:
        """The same rows for a class head; see ``Row.without_words``."""
        rows = copy(self)
        rows._choices = ([0],) * len(self._choices)
        return rows

    def check(self, name: str, tokenizer: PreTrainedTokenizerBase, layout: Layout, vocab: int | None) -> None:
        """Refuses rows that a model cannot read; see ``stored_rows``."""
        if not self._rows[:, 1].all():
            shortest = int(np.argmin(self._rows[:, 1]))
            check_texts([self[shortest]], layout, f"{name} row {shortest + 1}")
        if vocab is None or max(tokenizer.get_vocab().values()) < vocab:
            return  # without reading all tokens
        check_ids([int(self._tokens.max())], tokenizer, vocab, name)

    @property
    def labels(self) -> Int[np.ndarray, " R"]:
        """The label of each of the R rows."""
        return self._rows[:, 3]

    @property
    def lost(self) -> Int[np.ndarray, " R"]:
        """The number of tokens that each of the R rows lost by truncation."""
        return self._rows[:, 4]


def stored_rows(
    task: Task,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    layout: Layout,
    vocab: int | None = None,
    bos: int | None = None,
    opening: Opening | None = None,
) -> StoredRows:
    """The rows of a split, tokenised unless they are in the cache already; warns of truncated ones.

    The cache folder holds them under a hash of everything that they depend on. If the source does not know
    its version, the files are deleted when this process no longer reads them.

    Args:
        vocab: number of rows of the model's embedding; None if there is no model.
        bos: the token that every input begins with; see ``encode``.
        opening: what stands in front of prompts inside a user's turn; see ``encode``.

    Raises:
        UserError: a decoder is to read a row without tokens, or the embedding lacks a token.
    """
    rows = _stored_rows(task, split, tokenizer, max_length, layout, bos, opening)
    rows.check(f"task {task.name}: {split}", tokenizer, layout, vocab)
    warn_of_cut(f"{split} rows of task {task.name}", rows.lost, max_length)
    return rows


def _stored_rows(
    task: Task,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    layout: Layout,
    bos: int | None,
    opening: Opening | None,
) -> StoredRows:
    tokenised = partial(
        encode, tokenizer=tokenizer, max_length=max_length, layout=layout, bos=bos, opening=opening
    )

    def write(folder: Path) -> None:
        say(f"reading the {split} rows of {task.name}")
        _write(folder, chain.from_iterable(_in_chunks(tokenised, task.examples(split))))

    version = task.source.version(split)
    if version is None:
        with TemporaryDirectory() as scratch:
            write(Path(scratch))
            return StoredRows(
                Path(scratch), task.scoring
            )  # mapped files stay readable after they are deleted
    wording = [task.template, dict(task.verbalizer), task.label, task.hashed]
    key = [FORMAT, version, split, wording, tokenizer_hash(tokenizer), max_length, layout]
    if bos is not None:
        key.append(bos)
    if task.chat:
        key += [tokenizer.chat_template, task.system, task.learned]
    if opening is not None:
        key += [opening.text, opening.tokens]
    folder = cache_dir() / "rows" / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            write(complete := Path(scratch) / "made")
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(complete, folder)
    return StoredRows(folder, task.scoring)


def _in_chunks(tokenised: partial[list[Row]], examples: Iterable[Example]) -> Iterator[list[Row]]:
    """Yields chunks of rows in order; worker processes tokenise them if there are many."""
    examples = iter(examples)
    chunks = iter(lambda: list(islice(examples, CHUNK)), [])
    yield from map(tokenised, islice(chunks, SERIAL_CHUNKS))
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
            table.write(np.array([start, *lengths, row.label, row.lost], np.int64).tobytes())
            start += sum(lengths)
    (folder / "choices.json").write_text(json.dumps(row.choices if row else ()))
