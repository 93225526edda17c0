"""What to learn: a task turns records of a source into text-to-text examples."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from mpt.data.records import Fault, Record
from mpt.data.sources import Source
from mpt.errors import UserError, nearest
from mpt.metrics import NEEDS

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
        references: every text that counts as right, the target first.
        group: what it is scored together with, where a metric counts groups.
    """

    template: str
    fields: Mapping[str, str]
    target: str
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    group: str = ""

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
        verbalizer: a record's label -> the words that the model says for it; empty for free text. Where
            a metric asks for a positive class, it is the last.
        label: the column with the label, or with the target text if there is no verbalizer: a list of
            texts, if several count as right.
        metrics: names in ``mpt.metrics.METRICS``; the first is the one that tables show.
        group: the column that names what an example is scored together with.
        templates: other templates by name; ``mnli:question`` is the task ``mnli`` with that of them.
        instruction: what the task is, in words: the hard prompt, and a start for soft ones.
        url: where the data set is described.
        scoring: what a class's words are compared by: the "sum" of their tokens' log-probabilities, or
            the "mean", which does not favour the shorter of them.

    >>> from mpt.data.sources import Rows
    >>> source = Rows({"train": [{"text": "A joy.", "label": 1}]})
    >>> task = Task("mine", source, "{text}\\nSentiment:", {"0": "negative", "1": "positive"})
    >>> example = next(task.examples("train"))
    >>> example.inputs, example.target
    ('A joy.\\nSentiment:', 'positive')
    """

    name: str
    source: Source
    template: str
    verbalizer: Mapping[str, str] = field(default_factory=dict)
    label: str = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    instruction: str = ""
    url: str = ""
    scoring: Scoring = "sum"
    group: str = ""
    templates: Mapping[str, str] = field(default_factory=dict)

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
        for metric, part in NEEDS.items():
            if metric in self.metrics and not getattr(self, part):
                raise UserError(f"task {self.name}: metric {metric} needs a {part}; give the task one")

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

    @property
    def metric(self) -> str:
        """The metric that tables show."""
        return self.metrics[0]

    def with_template(self, name: str) -> Task:
        """This task with another of its templates.

        Raises:
            UserError: it has none of that name.
        """
        if name not in self.templates:
            hint = nearest(name, self.templates) if self.templates else "it has one template only"
            raise UserError(f"task {self.name} has no template '{name}'; {hint}")
        return replace(self, name=f"{self.name}:{name}", template=self.templates[name])

    def examples(self, split: str) -> Iterator[Example]:
        """The examples of ``split``, "train", "validation" or "test", one after another.

        Raises:
            UserError: the split is empty, or a record lacks a column or has an unknown label.
        """
        record = None
        for record in self.source.load(split):
            yield self.example(record)
        if record is None:
            raise UserError(f"task {self.name}: the {split} split of {self.source} is empty")

    def sample(self, split: str, count: int, seed: int = 0) -> list[Example]:
        """``count`` examples of a split, drawn without replacement, in random order; all of them for 0."""
        length = sum(1 for _ in self.source.load(split))
        drawn = np.random.default_rng(seed).permutation(length)[: count or length]
        places = {int(place): order for order, place in enumerate(drawn)}
        found = [(places[i], example) for i, example in enumerate(self.examples(split)) if i in places]
        return [example for _, example in sorted(found, key=lambda pair: pair[0])]

    def example(self, record: Record, target: str | None = None) -> Example:
        """A record as text; its target is read from the record unless it is given."""
        fields = {name: self.text(record, name) for name in self.columns}
        right = self.references(record) if target is None else (target,)
        group = self.text(record, self.group) if self.group and target is None else ""
        return Example(self.template, fields, right[0], self.choices, right, group)

    def records(self, name: str, inputs: Iterable[Any]) -> list[Record]:
        """Unlabelled inputs as records: each an object with the columns, or the text of the only one.

        Args:
            name: what the inputs are called in error messages.
        """
        found = []
        for i, value in enumerate(inputs):
            if isinstance(value, str) and len(self.columns) == 1:
                value = {self.columns[0]: value}
            if not isinstance(value, Mapping):
                ways = "a text or " if len(self.columns) == 1 else ""
                wanted = f"{ways}an object with {', '.join(self.columns)}"
                raise UserError(f"{name}[{i}]: task {self.name} takes {wanted}")
            found.append(Record(f"{name}[{i}]", value))
        return found

    def text(self, record: Record, column: str) -> str:
        """A record's column as text."""
        if column not in record.columns:
            have = ", ".join(map(str, record.columns))
            reason = f"no column '{column}', which task {self.name} needs; it has {have}"
            raise Fault("missing column", record.where, reason)
        value = record.columns[column]
        if value is None or isinstance(value, (list, dict, bytes)):
            kind = "empty" if value is None else f"a {type(value).__name__}"
            reason = f"column '{column}' is {kind}; task {self.name} can render text only"
            raise Fault("not a text", record.where, reason)
        return str(value).strip()

    def references(self, record: Record) -> tuple[str, ...]:
        """The target, and what else counts as right."""
        several = record.columns.get(self.label)
        if not self.verbalizer and isinstance(several, (list, tuple)) and several:
            return tuple(str(text).strip() for text in several)
        return (self._target(record),)

    def _target(self, record: Record) -> str:
        label = self.text(record, self.label)
        if not self.verbalizer:
            return label
        if label not in self.verbalizer:
            known = ", ".join(self.verbalizer)
            reason = f"label '{label}' is not in the verbalizer of task {self.name}, which knows {known}"
            raise Fault("unknown label", record.where, reason)
        return self.verbalizer[label]
