"""Text from data: E2E and WebNLG, as the GEM benchmark (Gehrmann et al., 2021) has them.

E2E is the cleaned release (Dušek et al., 2019), whose BLEU does not compare with the original's.
TFDS prepares WebNLG with TensorFlow, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpt.data.records import Fault, Record
from mpt.data.sources import Source, Tfds
from mpt.data.splits import ALL, Columns
from mpt.data.task import Task
from mpt.tasks import Row, Rows, own

METRICS = ("bleu", "rougeL", "chrf")


@dataclass(frozen=True)
class Grouped(Source):
    """A source whose rows of one input are one record with all their texts, but for those to train on.

    Attributes:
        source: gives a row per text.
        by: the column with the input.
        label: the column with the text.
    """

    source: Source
    by: str
    label: str = "label"

    @property
    def stored_splits(self) -> tuple[str, ...]:
        return self.source.stored_splits

    @property
    def is_local(self) -> bool:
        return self.source.is_local

    def has(self, split: str) -> bool:
        return self.source.has(split)

    def count(self, split: str, columns: Columns = ALL) -> int | None:
        return self.source.count(split, columns) if split == "train" else super().count(split, columns)

    def rows(self, stored_split: str) -> Iterator[Record | Fault]:
        groups: dict[str, Record] = {}
        for row in self.source.rows(stored_split):
            if isinstance(row, Fault) or stored_split == "train":
                yield row
            else:
                first = groups.setdefault(
                    row.columns[self.by], row._replace(columns={**row.columns, self.label: []})
                )
                first.columns[self.label].append(row.columns[self.label])
        yield from groups.values()

    def __str__(self) -> str:
        return str(self.source)


def triples(row: Row) -> Rows:
    """WebNLG's triples as text, with all references; a row without one is left out."""
    if texts := row["references"] or [row["target"]] * bool(row["target"]):
        yield {"triples": " && ".join(row["input"]), "label": texts}


TASKS = (
    # name[Cotto], food[Indian], near[The Portland Arms] -> Cotto serves Indian food near ...
    Task(
        name="e2e",
        source=Grouped(Tfds("gem/e2e_nlg", own()), by="meaning_representation", label="target"),
        template="e2e: {meaning_representation}",
        label="target",
        metrics=METRICS,
        instruction="Describe the restaurant with these properties.\n",
        url="https://gem-benchmark.com/data_cards/e2e_nlg",
        templates={"plain": "{meaning_representation}\nIn words:"},
    ),
    # Oslo | country | Norway && Norway | capital | Oslo -> Oslo is the capital of Norway.
    Task(
        name="webnlg",
        source=Tfds("gem/web_nlg_en", own(), triples),
        template="webnlg: {triples}",
        metrics=METRICS,
        instruction="Say in words what these facts state: subject | property | object.\n",
        url="https://gem-benchmark.com/data_cards/web_nlg",
        templates={"plain": "{triples}\nIn words:"},
    ),
)
