"""A task turns the records of a source into text-to-text examples."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from mpt.data.records import HALF, MISSING, Fault, Record, has_half_a_character, is_missing
from mpt.data.sources import Source
from mpt.data.splits import Columns
from mpt.data.text.example import Example, Place, Scoring
from mpt.data.text.messages import ASKED, COLUMNS, Turn, answered, asked, by_reply
from mpt.errors import UserError, nearest, warn
from mpt.metrics import METRICS, NEEDS

# Which of the assistant's turns in a conversation are learned.
Turns = Literal["last", "all"]

# With this many rows, a split by hash is not empty in 99 of 100 data sets.
ENOUGH = {"train": 4, "validation": 44, "test": 21}
LONGEST_TEXT = 128  # tokens
CHAT = "chat"  # a task's name with ":chat" at its end is the task as a chat
USER = "user"  # with ":chat:user", its prompt is inside the user's turn
CHAT_PARTS = ("chat", "system", "learned", "place")  # the attributes that only chats have
FEW = 6  # number of classes that are shown when a task is printed


@dataclass(frozen=True)
class Task:
    """A source of records, and how they are worded as examples.

    Attributes:
        name: unique among tasks.
        source: the source of the records.
        template: the input text; ``{column}`` is replaced by that column of a record.
        verbalizer: maps a record's label to the class words that the model produces for it; empty for free
            text. For metrics that need a positive class, it is the last one.
        label: the column with the label; without a verbalizer, the column with the target text, or with a
            list of texts that all count as correct.
        metrics: names in ``mpt.metrics.METRICS``; tables show the first.
        max_new_tokens: for free text, the most tokens that the model writes in answer to a row.
        group: the column with the name of the group that an example is scored with.
        templates: further templates by name; ``mnli:question`` is the task ``mnli`` with its template
            ``question``.
        instruction: a description of the task for the model: the hard prompt, and an initial value for soft
            prompts.
        url: a page that describes the data set.
        scoring: how the words of a class are scored: by the "sum" of their tokens' log-probabilities, or by
            the "mean", which does not favour short words.
        chat: whether the model reads a conversation, by its own chat template: the template's text is the
            user's turn, and the target the assistant's. Without a template, the records are conversations:
            messages, or a prompt and its completion.
        system: the text of the system's turn, in front of a chat's others.
        learned: whether the assistant's last turn in a record is learned, or each as a row of its own.
        place: whether prompts stand in "front" of everything, or inside a chat's first "user" turn, after
            all that the chat template writes in front of the user's own text.

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
    chat: bool = False
    system: str = ""
    learned: Turns = "last"
    place: Place = "front"
    max_new_tokens: int = LONGEST_TEXT

    def __post_init__(self):
        if self.system and not self.chat:
            raise UserError(f"task {self.name}: system: only a chat has one; write chat: true, too")
        if self.place not in get_args(Place):
            raise UserError(f"task {self.name}: place is '{self.place}'; front and user are known")
        if self.place == USER and not self.chat:
            raise UserError(f"task {self.name}: place: only a chat has a user's turn; write chat: true, too")
        if self.learned not in get_args(Turns):
            raise UserError(f"task {self.name}: learned is '{self.learned}'; last and all are known")
        if self.learned == "all" and not self.reads_conversations:
            raise UserError(f"task {self.name}: learned: only conversations have several turns; leave it out")
        if self.reads_conversations and self.verbalizer:
            raise UserError(
                f"task {self.name}: verbalizer: conversations have replies, not classes; write a template, "
                "or leave it out"
            )
        for name, spec, conversion in self._placeholders:
            if not name.isidentifier() or spec or conversion:
                placeholder = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise UserError(
                    f"task {self.name}: template: '{{{placeholder}}}' is not a column name; "
                    "write {column} with a plain name, and {{ }} for braces"
                )
        if not self.columns:
            raise UserError(f"task {self.name}: template: it contains no {{column}} of the data")
        if self.scoring not in get_args(Scoring):
            raise UserError(f"task {self.name}: scoring is '{self.scoring}'; sum and mean are known")
        if self.max_new_tokens < 1:
            raise UserError(f"task {self.name}: max_new_tokens is {self.max_new_tokens}; give 1 or more")
        words = list(self.verbalizer.values())
        if len(set(words)) < len(words):
            raise UserError(f"task {self.name}: verbalizer: two labels share one word; give each its own")
        if unknown := [metric for metric in self.metrics if metric not in METRICS]:
            hint = nearest(str(unknown[0]), METRICS)
            raise UserError(f"task {self.name}: metric '{unknown[0]}' is unknown; {hint}")
        for metric, attribute in NEEDS.items():
            if metric in self.metrics and not getattr(self, attribute):
                raise UserError(f"task {self.name}: metric {metric} needs a {attribute}; give the task one")

    def __repr__(self) -> str:
        """One line, however many rows and classes there are."""
        few = f"the classes {', '.join(self.choices)}"
        several = few if len(self.choices) <= FEW else f"{len(self.choices)} classes"
        kind = several if self.choices else "free text"
        return f"<Task {self.name}: {kind}, scored by {self.metric}; {self.source}>"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template uses, without repetition; of conversations, that of the messages."""
        if self.reads_conversations:
            return COLUMNS[:1]
        return tuple(dict.fromkeys(name for name, _, _ in self._placeholders))

    @property
    def _placeholders(self) -> list[tuple[str, str, str]]:
        """The column, format and conversion of each placeholder; a valid template has only columns."""
        try:
            pieces = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise UserError(f"task {self.name}: template: {error}; write {{{{ }}}} for braces") from None
        return [
            (name, spec or "", conversion or "") for _, name, spec, conversion in pieces if name is not None
        ]

    @property
    def reads_conversations(self) -> bool:
        """Whether the records themselves are conversations."""
        return self.chat and not self.template

    @property
    def hard_prompt(self) -> str:
        """The instruction before a text; it gets a line of its own unless it ends with white space."""
        parted = not self.instruction or self.instruction[-1].isspace()
        return self.instruction if parted else f"{self.instruction}\n"

    @property
    def choices(self) -> tuple[str, ...]:
        """The class words, in the order of the verbalizer; empty for free text."""
        return tuple(self.verbalizer.values())

    @property
    def metric(self) -> str:
        """The metric that tables show."""
        return self.metrics[0]

    def with_template(self, name: str) -> Task:
        """Returns this task with another of its templates, or as a chat for "chat", or "NAME:chat" both.

        A chat has its prompt inside the user's turn for "user"; "chat:user" is both.

        Raises:
            UserError: the task has no template of that name.
        """
        name, _, more = name.partition(":")
        if more:
            return self.with_template(name).with_template(more)
        if name == CHAT and name not in self.templates:
            return replace(self, name=f"{self.name}:{name}", chat=True)
        if name == USER and self.chat and name not in self.templates:
            return replace(self, name=f"{self.name}:{name}", place=USER)
        if name not in self.templates:
            hint = nearest(name, self.templates) if self.templates else "it has one template only"
            raise UserError(f"task {self.name} has no template '{name}'; {hint}")
        return replace(self, name=f"{self.name}:{name}", template=self.templates[name])

    @property
    def versions(self) -> tuple[Task, ...]:
        """This task, and the same with each of its templates."""
        return (self, *(replace(self, template=template) for template in self.templates.values()))

    @property
    def hashed(self) -> Columns:
        """The columns that determine the splits of the rows, if the source does not."""
        if self.reads_conversations:
            return Columns(ASKED)
        of_each = [version.columns for version in self.versions]
        shared = set(of_each[0]).intersection(*of_each)
        return Columns(self.columns, tuple(sorted(shared)))

    def load(self, split: str) -> Iterator[Record]:
        """Yields the records of a split; see ``Source.load``; conversations give one per learned turn."""
        records = self.source.load(split, self.hashed)
        return chain.from_iterable(map(by_reply, records)) if self.learned == "all" else records

    def examples(self, split: str) -> Iterator[Example]:
        """Yields the examples of a split, "train", "validation" or "test"; warns of those without text.

        Raises:
            UserError: the split is empty, or a record lacks a column or has an unknown label.
        """
        record, blank = None, []
        for record in self.load(split):
            example = self.example(record)
            if not any(example.fields.values()):
                blank.append(record.where)
            yield example
        if record is None:
            raise UserError(f"task {self.name}: {self._empty(split)}")
        if blank:
            rows = f"{len(blank)} {split} rows of task {self.name}"
            warn(f"{rows} have no text in {', '.join(self.columns)}; the first is {blank[0]}")

    def _empty(self, split: str) -> str:
        """Why a split has no rows, and what helps."""
        enough = f"it needs about {ENOUGH[split]} rows"
        if split in self.source.stored_splits:
            place = self.source.place(split)
            return f"the {split} split of {place} is empty; give it rows; if a hash chose them, {enough}"
        return (
            f"the {split} split of {self.source} is empty; as a hash of their texts splits the rows, "
            f"{enough}: give more rows, or files for all splits"
        )

    def sample(self, split: str, count: int, seed: int = 0) -> list[Example]:
        """Draws ``count`` examples of a split without replacement, in random order; 0 draws all."""
        length = sum(1 for _ in self.load(split))
        drawn = np.random.default_rng(seed).permutation(length)[: count or length]
        order = {int(index): rank for rank, index in enumerate(drawn)}
        ranked = [(order[i], example) for i, example in enumerate(self.examples(split)) if i in order]
        return [example for _, example in sorted(ranked, key=lambda pair: pair[0])]

    def example(self, record: Record, target: str | None = None) -> Example:
        """Turns a record into an example; the target is read from the record unless it is given."""
        if self.reads_conversations:
            return self._reply(record, target)
        fields = {name: self.text(record, name) for name in self.columns}
        correct = self.references(record) if target is None else (target,)
        group = self.text(record, self.group) if self.group and target is None else ""
        turns = self.with_system([Turn("user", self.template)], escaped=True) if self.chat else ()
        return Example(
            self.template,
            fields,
            correct[0],
            self.choices,
            correct,
            group,
            self.scoring,
            tuple(turns),
            self.place,
        )

    def _reply(self, record: Record, target: str | None) -> Example:
        """The example of a conversation: the target is its last reply; each turn before it is a field."""
        turns, reply = answered(record) if target is None else (asked(record), target)
        group = self.text(record, self.group) if self.group and target is None else ""
        turns = self.with_system(turns)
        fields = {f"turn{place}": turn.content for place, turn in enumerate(turns)}
        kept = tuple(Turn(turn.role, f"{{{name}}}") for turn, name in zip(turns, fields))
        template = "\n".join(f"{turn.role}: {turn.content}" for turn in kept)
        return Example(template, fields, reply, (), (reply,), group, self.scoring, kept, self.place)

    def with_system(self, turns: Sequence[Turn], escaped: bool = False) -> list[Turn]:
        """A conversation that begins with the task's system text, unless it has its own.

        Args:
            escaped: whether placeholders will be filled in, so that braces are written twice.
        """
        if not self.system or any(turn.role == "system" for turn in turns):
            return list(turns)
        text = self.system.replace("{", "{{").replace("}", "}}") if escaped else self.system
        return [Turn("system", text), *turns]

    def records(self, name: str, inputs: Iterable[Any]) -> list[Record]:
        """Turns unlabelled inputs into records.

        Args:
            name: the name of the inputs in error messages.
            inputs: mappings from column names to values; or texts, if the template uses only one column.

        Raises:
            UserError: an input is neither.
        """
        records = []
        for i, value in enumerate(inputs):
            if isinstance(value, str) and len(self.columns) == 1:
                value = {self.columns[0]: value}
            if not isinstance(value, Mapping):
                ways = "a text or " if len(self.columns) == 1 else ""
                wanted = f"{ways}an object with {', '.join(self.columns)}"
                raise UserError(f"{name}[{i}]: task {self.name} takes {wanted}")
            records.append(Record(f"{name}[{i}]", value))
        return records

    def text(self, record: Record, column: str) -> str:
        """Returns a column of a record as text; raises a ``Fault`` if it is missing or not a text."""
        if self.reads_conversations and column in self.columns:
            return "\n".join(turn.content for turn in asked(record))
        if column not in record.columns:
            have = ", ".join(map(str, record.columns))
            reason = f"no column '{column}', which task {self.name} needs; it has {have}"
            raise Fault(f"{MISSING} '{column}'", record.where, reason)
        value = record.columns[column]
        missing = is_missing(value)
        if missing or isinstance(value, (list, dict, bytes)):
            kind = "empty" if missing else f"a {type(value).__name__}"
            reason = f"column '{column}' is {kind}; task {self.name} can render text only"
            raise Fault("not a text", record.where, reason)
        text = str(value).strip()
        if has_half_a_character(text):
            raise Fault("not a text", record.where, f"column '{column}': {HALF}")
        return text

    def references(self, record: Record) -> tuple[str, ...]:
        """All texts that count as correct for a record; the first is the target."""
        if self.reads_conversations:
            return (answered(record)[1],)
        texts = record.columns.get(self.label)
        if not self.verbalizer and isinstance(texts, (list, tuple)) and texts:
            if any(map(is_missing, texts)):
                reason = f"column '{self.label}' is a list with an empty text; leave it out of the list"
                raise Fault("not a text", record.where, reason)
            return tuple(str(text).strip() for text in texts)
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
