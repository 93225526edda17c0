"""Checks a whole task and its data: reports every fault, and statistics of the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from mpt.catalog.library import find_task
from mpt.data.records import MISSING, Fault, Record
from mpt.data.splits import SPLITS, Seen, digest_of, splits_by_hash
from mpt.data.task import Example, Task
from mpt.data.taskfile import is_task_file, parse_task
from mpt.errors import UserError, show
from mpt.render.console import print_table

SHOWN, PLACES = 10, 4  # faults of one kind, and places of one fault
CONFLICT = "conflicting labels"


@dataclass
class Alike:
    """A fault of one reason: its first few places, and how many rows have it."""

    reason: str
    places: list[str]
    count: int = 1
    of_all: bool = False

    def __str__(self) -> str:
        told = f"{self.places[0]}: {self.reason}"
        if self.of_all:
            return f"{told}; all {self.count:,} rows lack it"
        if self.count == 1:
            return told
        file = self.places[0].rstrip("0123456789")
        places = [place.removeprefix(file) for place in self.places] + ["…"] * (self.count > PLACES)
        return f"{told}; in {self.count:,} rows, at {', '.join(places)}"


class Faults:
    """Faults by kind, and of a kind by reason: the first few of each, and how many more there are."""

    def __init__(self):
        self.first: dict[str, dict[str, Alike]] = {}
        self.more: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self.first.values())) + self.more.total()

    @property
    def rows(self) -> int:
        """How many rows have one."""
        alike = (each for of_kind in self.first.values() for each in of_kind.values())
        return sum(each.count for each in alike) + self.more.total()

    def add(self, *faults: Fault) -> None:
        for fault in faults:
            of_kind = self.first.setdefault(fault.kind, {})
            if found := of_kind.get(fault.reason):
                found.count += 1
                found.places += [fault.where] if len(found.places) < PLACES else []
            elif len(of_kind) < SHOWN:
                of_kind[fault.reason] = Alike(fault.reason, [fault.where])
            else:
                self.more[fault.kind] += 1

    def merge(self, part: Faults, rows: int) -> None:
        """Adds the faults of a part with so many rows, all of which may lack a column."""
        for kind, of_part in part.first.items():
            of_kind = self.first.setdefault(kind, {})
            for one in of_part.values():
                one.of_all = kind.startswith(MISSING) and one.count == rows > 1
                if len(of_kind) < SHOWN:
                    of_kind[str(one)] = one
                else:
                    self.more[kind] += 1
            self.more[kind] += part.more[kind]

    def lines(self) -> Iterator[str]:
        for kind, of_kind in self.first.items():
            yield f"{kind}:"
            yield from (f"  {one}" for one in of_kind.values())
            if more := self.more[kind]:
                yield f"  and {more:,} more like {'them' if len(of_kind) > 1 else 'it'}"


@dataclass
class Survey:
    """Statistics of the rows of a split.

    Attributes:
        rows: those without faults.
        classes: target -> rows.
        blank: column -> rows in which it is empty.
        met: split -> rows whose text occurred there before; in this split, those with the same label:
            duplicates.
        longest: the characters of the longest input, and where it stands.
    """

    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    blank: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    longest: tuple[int, str] = (0, "")

    def add(self, example: Example, where: str, met: str) -> None:
        self.rows += 1
        if example.choices:
            self.classes[example.target] += 1
        if met:
            self.met[met] += 1
        self.blank.update(name for name, text in example.fields.items() if not text)
        if len(example.inputs) > self.longest[0]:
            self.longest = (len(example.inputs), where)


def check_task(name: str, model: str = "") -> None:
    """Prints every fault of a task and its data, then a table of the splits.

    Args:
        model: the model that is to read the task's words; none where left out.

    Raises:
        UserError: there are faults; it says how many.
    """
    faults, console = Faults(), Console(highlight=False, markup=False)
    if is_task_file(name):
        task, wrong = parse_task(Path(name))
        faults.add(*wrong)
    else:
        task = find_task(name)
    if task and model:
        faults.add(*_word_faults(task, model))
    surveys = _surveyed(task, faults) if task else None
    for line in faults.lines():
        show(line)
    if task and surveys and surveys.splits:
        print_table(console, _table(surveys.splits))
        for line in _notes(task, surveys):
            show(line)
    if count := len(faults):
        unread = "" if task else "; its data was not read"
        raise UserError(f"{name}: {count:,} {'fault' if count == 1 else 'faults'}{unread}")
    console.print("No faults.")


def _word_faults(task: Task, model: str) -> Iterator[Fault]:
    """Faults that keep a model from reading the words of a task's templates and classes."""
    from mpt.data.class_words import check_words  # these bring JAX, which takes seconds
    from mpt.loading.hf import load_tokenizer
    from mpt.loading.shapes import abstract_backbone

    (tokenizer, layout), vocab = load_tokenizer(model), abstract_backbone(model).embedding.shape[0]
    for version in [task.with_template(name) for name in task.templates] or [task]:
        try:
            check_words(version, tokenizer, layout, vocab)
        except UserError as error:
            yield Fault("unreadable words", f"model {model}", str(error))


class Surveys(NamedTuple):
    """Statistics of a task's rows.

    Attributes:
        splits: a survey of each split that has rows.
        dropped: how many duplicates were left out when the splits were made.
        conflicts: rows with an earlier row's text and another label.
    """

    splits: dict[str, Survey]
    dropped: int
    conflicts: Faults


def _surveyed(task: Task, faults: Faults) -> Surveys:
    """Reads all rows once."""
    surveys, conflicts, dropped = {split: Survey() for split in SPLITS}, Faults(), 0
    columns = tuple(dict.fromkeys(column for version in task.versions for column in version.columns))
    with Seen() as seen:
        for part in _parts(task, faults):
            of_part, count = Faults(), 0
            for split, row in _placed(task, part):
                wrong = [row] if isinstance(row, Fault) else list(_row_faults(task, columns, row))
                of_part.add(*wrong)
                count += isinstance(row, Record)
                if wrong or isinstance(row, Fault):
                    continue
                example = task.example(row)
                earlier = seen.earlier(
                    digest_of(example.inputs), json.dumps([split, example.target, row.where])
                )
                met, target, where = json.loads(earlier) if earlier else ("", example.target, "")
                is_conflict = bool(example.choices) and target != example.target
                if is_conflict:
                    conflicts.add(
                        Fault(CONFLICT, row.where, f"'{example.target}', but '{target}' in {where}")
                    )
                if split:
                    surveys[split].add(example, row.where, "" if is_conflict and met == split else met)
                else:
                    dropped += not is_conflict
            faults.merge(of_part, count)
    return Surveys({split: survey for split, survey in surveys.items() if survey.rows}, dropped, conflicts)


def _parts(task: Task, faults: Faults) -> list[str]:
    """The stored splits that are read: the three, or the one of all rows."""
    try:
        return [part for part in task.source.stored_splits if part in (*SPLITS, "all")]
    except UserError as error:
        faults.add(Fault("unreadable data", task.name, str(error)))
        return []


def _placed(task: Task, part: str) -> Iterator[tuple[str | None, Record | Fault]]:
    """A part's rows with their splits; None for faults, and for duplicates in what is split by a hash."""
    source = task.source
    if part == "all":
        yield from splits_by_hash(_rows(task, part), source.label, source.group, task.hashed)
    else:
        yield from ((part, row) for row in _rows(task, part))


def _rows(task: Task, part: str) -> Iterator[Record | Fault]:
    """A part's rows; that it has none, or cannot be had, is a fault too."""
    row = None
    try:
        for row in task.source.rows(part):
            yield row
    except UserError as error:
        yield Fault("unreadable data", task.name, str(error))
    else:
        if row is None:
            name = "it" if part == "all" else f"the {part} split"
            yield Fault("no rows", task.source.place(part), f"{name} is empty")


def _row_faults(task: Task, columns: Sequence[str], record: Record) -> Iterator[Fault]:
    """Everything that keeps a record from being an example, or leaves it without text."""
    inputs = [partial(task.text, record, column) for column in columns]
    group = [partial(task.text, record, task.group)] if task.group else []
    target = [lambda: task.references(record)[0]]
    told = set()
    for reads, names in ((inputs, columns), (target, [task.label]), (group, [task.group])):
        texts = []
        for read in reads:
            try:
                texts.append(read())
            except Fault as fault:
                if (
                    str(fault) not in told
                ):  # what is wrong with messages keeps their reply from being read too
                    yield fault
                told.add(str(fault))
        if texts and not any(texts):
            yield Fault("no text", record.where, f"no text in {', '.join(names)}")


def _table(surveys: dict[str, Survey]) -> Table:
    table = Table("split", "rows", "classes", "duplicates", "longest input")
    for split, survey in surveys.items():
        classes = ", ".join(f"{word} {count:,}" for word, count in survey.classes.most_common())
        counts = f"{survey.met[split]:,}", f"{survey.longest[0]:,} characters"
        table.add_row(split, f"{survey.rows:,}", classes or "text", *counts)
    return table


def _notes(task: Task, surveys: Surveys) -> Iterator[str]:
    """Remarks that are not faults."""
    splits, dropped, conflicts = surveys
    if "train" in splits:
        for word in task.choices:
            if not splits["train"].classes[word]:
                yield f"Warning: 0 training rows of '{word}': this class cannot be learned."
    if count := conflicts.rows:
        row = "1 row has" if count == 1 else f"{count:,} rows have"
        stays = (
            "; if a hash makes the splits, the first is kept" if "all" in task.source.stored_splits else ""
        )
        yield f"Warning: {row} the text of an earlier one and another label{stays}."
        yield from conflicts.lines()
    if dropped:
        was = "duplicate was" if dropped == 1 else "duplicates were"
        yield f"{dropped:,} {was} left out before the splits were made."
    for split, survey in splits.items():
        yield f"The longest {split} input is that of {survey.longest[1]}."
        for other, count in survey.met.items():
            if other != split:
                have = "row has" if count == 1 else "rows have"
                yield f"{count:,} {split} {have} a text that is in {other} too."
        for column, count in survey.blank.items():
            yield f"Column '{column}' is empty in {count:,} {split} row{'s' * (count != 1)}."
