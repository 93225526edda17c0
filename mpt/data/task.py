"""What to learn: a task turns records of a source into text-to-text examples."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from mpt.data.sources import Record, Source
from mpt.errors import UserError

Scoring = Literal["sum", "mean"]


@dataclass(frozen=True)
class Example:
    """One text-to-text example.

    Attributes:
        template: the text with ``{field}`` places.
        fields: what goes there. Kept apart so that truncation can shorten a field and leave the
            template's own words whole.
        target: the text to produce.
        choices: the class words to choose from; empty for free text.
    """

    template: str
    fields: Mapping[str, str]
    target: str
    choices: tuple[str, ...] = ()

    @property
    def inputs(self) -> str:
        return self.template.format_map(self.fields)

    @property
    def label(self) -> int:
        """The target's place among the choices."""
        return self.choices.index(self.target)


@dataclass(frozen=True)
class Task:
    """A source, and how its records read.

    Attributes:
        name: unique among tasks.
        source: where the records come from.
        template: the input text; ``{column}`` stands for a record's column.
        verbalizer: a record's label -> the words that the model says for it; empty for free text.
        label: the column with the label, or with the target text if there is no verbalizer.
        metric: a name in ``mpt.metrics.METRICS``.
        instruction: what the task is, in words: the hard prompt, and a start for soft ones.
        url: where the data set is described.
        scoring: what a class's words are compared by: the "sum" of their tokens' log-probabilities, or
            the "mean", which does not favour the shorter of them.
    """

    name: str
    source: Source
    template: str
    verbalizer: Mapping[str, str] = field(default_factory=dict)
    label: str = "label"
    metric: str = "accuracy"
    instruction: str = ""
    url: str = ""
    scoring: Scoring = "sum"

    def __post_init__(self):
        for name, spec, conversion in self._places:
            if not name.isidentifier() or spec or conversion:
                place = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise UserError(
                    f"task {self.name}: template: '{{{place}}}' is not a column name; "
                    "write {column} with a plain name, and {{ }} for braces"
                )
        if not self.columns:
            raise UserError(f"task {self.name}: template: it names no {{column}} of the data")
        if self.scoring not in get_args(Scoring):
            raise UserError(f"task {self.name}: scoring is '{self.scoring}'; sum and mean are known")
        words = list(self.verbalizer.values())
        if len(set(words)) < len(words):
            raise UserError(f"task {self.name}: verbalizer: two labels share one word; give each its own")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template names, each once."""
        return tuple(dict.fromkeys(name for name, _, _ in self._places))

    @property
    def _places(self) -> list[tuple[str, str, str]]:
        """Each place's column, format and conversion; a good template has neither of the latter."""
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise UserError(f"task {self.name}: template: {error}; write {{{{ }}}} for braces") from None
        return [
            (name, spec or "", conversion or "") for _, name, spec, conversion in parts if name is not None
        ]

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(self.verbalizer.values())

    def examples(self, split: str) -> list[Example]:
        """All examples of ``split``: "train", "validation" or "test".

        Raises:
            UserError: the split is empty, or a record lacks a column or has an unknown label.
        """
        records = self.source.load(split)
        found = [self.example(record) for record in records]
        if not found:
            raise UserError(f"task {self.name}: the {split} split of {self.source} is empty")
        return found

    def example(self, record: Record, target: str | None = None) -> Example:
        """A record as text; its target is read from the record unless it is given."""
        fields = {name: self._text(record, name) for name in self.columns}
        return Example(
            self.template, fields, self._target(record) if target is None else target, self.choices
        )

    def _text(self, record: Record, column: str) -> str:
        if column not in record.columns:
            have = ", ".join(map(str, record.columns))
            raise UserError(
                f"{record.where}: no column '{column}', which task {self.name} needs; it has {have}"
            )
        value = record.columns[column]
        if value is None or isinstance(value, (list, dict)):
            kind = "empty" if value is None else f"a {type(value).__name__}"
            raise UserError(
                f"{record.where}: column '{column}' is {kind}; task {self.name} can render text only"
            )
        return str(value).strip()

    def _target(self, record: Record) -> str:
        label = self._text(record, self.label)
        if not self.verbalizer:
            return label
        if label not in self.verbalizer:
            known = ", ".join(self.verbalizer)
            raise UserError(
                f"{record.where}: label '{label}' is not in the verbalizer of task {self.name}, "
                f"which knows {known}"
            )
        return self.verbalizer[label]
