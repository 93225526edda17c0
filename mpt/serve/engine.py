"""The prompts of several runs behind one backbone, and their answers to batches of rows.

Compiled programs are the scarce thing: a batch's arrays are filled up to a few numbers of rows and a few
lengths of text, and all of these are compiled before the first request.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import jax.numpy as jnp

from mpt.data.batches import Sizes, bucket, collate
from mpt.data.task import Example
from mpt.errors import UserError, nearest
from mpt.inference.evaluate import Sizing, choice_probabilities
from mpt.inference.generate import SamplingParams, generate_behind_prompt
from mpt.inference.predict import Ready, open_run, trained
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.prompts.saved import load_prompt
from mpt.serve.group import Group, grouped
from mpt.system.paths import AnyPath
from mpt.types import Layout, Row

SHORTEST = 32  # cells of the narrowest grid


class Wish(NamedTuple):
    """How one text is to be written; the names are those of ``mpt.inference.generate.SamplingParams``."""

    temperature: float
    top_p: float
    seed: int
    max_new_tokens: int


class Chosen(NamedTuple):
    """The probability of each choice, and how many tokens of text were read."""

    shares: list[float]
    read: int


class Text(NamedTuple):
    """What was written behind ``read`` tokens, in ``wrote`` of them; ``ended`` is the model's own end."""

    text: str
    ended: bool
    read: int
    wrote: int


class Place(NamedTuple):
    """Where a task's prompt is: in which group, and where there."""

    ready: Ready
    group: Group
    number: int


@dataclass(frozen=True)
class Request:
    """A row to be classified or, with a wish, to be written on."""

    place: Place
    example: Example
    wish: Wish | None = None

    @property
    def key(self) -> Hashable:
        """Requests of one key can be answered together."""
        group, task = self.place.group, self.place.ready.task
        return (id(group), "write") if self.wish else (id(group), task.scoring, group.one_token(task))


class Engine:
    """The tasks of several runs.

    Args:
        runs: run directories of `adapt`, `pretrain` or `import`.
        most: rows of a batch.
        longest_text: tokens of a text that is written.

    Raises:
        UserError: the runs differ in their backbone, or know a task of the same name.
    """

    def __init__(self, runs: Sequence[AnyPath], most: int, longest_text: int):
        self.pretrained, opened = open_runs(runs)
        self.places = {
            ready.task.name: Place(ready, group, number)
            for group in grouped(opened.values(), self.pretrained)
            for number, ready in enumerate(group.members)
        }
        self._longest_text = longest_text
        self._counts = [*(4**i for i in range(most) if 4**i < most), most]

    def find(self, task: str) -> Place:
        """Where the task of that name is.

        Raises:
            UserError: it is not served.
        """
        if task not in self.places:
            raise UserError(f"task '{task}' is not served here; {nearest(task, self.places)}")
        return self.places[task]

    def answer(self, requests: Sequence[Request]) -> list[Chosen | Text | UserError]:
        """Answers requests of one key, at most a batch's."""
        rows = [request.place.ready.encode([request.example])[0] for request in requests]
        # A decoder cannot go on from nothing.
        read = [i for i, row in enumerate(rows) if len(row.inputs)]
        solve = self._write if requests[0].wish else self._classify
        found = solve([requests[i] for i in read], [rows[i] for i in read]) if read else []
        answers = dict(zip(read, found))
        nothing = UserError("a text is empty: there is nothing to read")
        return [answers.get(i, nothing) for i in range(len(rows))]

    def warm(self) -> Iterator[None]:
        """Compiles the programs that requests will ask for, one by one, by running each on filler."""
        kinds: dict[Hashable, Request] = {}
        for place in self.places.values():
            for wish in (None, Wish(0.0, 1.0, 0, 0)):
                request = Request(place, Example("", {}, ""), wish)
                if wish or place.ready.task.choices:
                    kinds.setdefault(request.key, request)
        for request in kinds.values():
            group = request.place.group
            choices = group.choices[request.place.ready.task.name]
            solve = self._write if request.wish else self._classify
            for cells in powers(SHORTEST, group.longest):
                row = Row([0] * (cells // 2 + 1), [0], choices)
                for count in self._counts:
                    yield
                    solve([request] * count, [row] * count)

    def _classify(self, requests: Sequence[Request], rows: Sequence[Row]) -> Sequence[Chosen]:
        place, count = requests[0].place, self._count(len(rows))
        model, index = place.group.narrowed([request.place.number for request in requests], count)
        task = place.ready.task
        sizing = filled_up(1 if place.group.one_token(task) else place.group.longest_choice)
        shares = choice_probabilities(model, rows, index, task.scoring, count, sizing)
        return [
            Chosen(found[: len(row.choices)].tolist(), len(row.inputs)) for found, row in zip(shares, rows)
        ]

    def _write(self, requests: Sequence[Request], rows: Sequence[Row]) -> Sequence[Text]:
        tokenizer, count = self.pretrained.tokenizer, self._count(len(rows))
        end: Any = tokenizer.eos_token_id
        group = requests[0].place.group
        wishes = [request.wish for request in requests if request.wish]
        places = [request.place.number for request in requests]
        model, index = group.narrowed(places, count)
        filler, layout = count - len(rows), model.backbone.layout
        inputs = [row._replace(targets=[end]) for row in [*rows, *[rows[0]] * filler]]
        batch = collate(inputs, [*index, *[index[0]] * filler], layout, filled_up(1)(inputs, layout))
        settings = zip(*wishes, *[Wish(0.0, 1.0, 0, 0)] * filler)
        kinds = (jnp.float32, jnp.float32, jnp.int32, jnp.int32)
        sampling = SamplingParams(*(jnp.array(part, kind) for part, kind in zip(settings, kinds)))
        found = generate_behind_prompt(
            model, batch, max_new_tokens=self._longest_text, stop=[end], method=sampling
        )
        return [
            Text(str(tokenizer.decode(ids)), len(ids) < wish.max_new_tokens, len(row.inputs), len(ids))
            for ids, wish, row in zip(found, wishes, rows)
        ]

    def _count(self, rows: int) -> int:
        """The number of rows that so many are filled up to."""
        return next(count for count in self._counts if count >= rows)


def filled_up(targets: int) -> Sizing:
    """Batches whose texts all take a power of two of cells, and whose targets take ``targets``."""

    def sizing(rows: Sequence[Row], layout: Layout) -> Sizes:
        cells = bucket(max(Sizes.of(rows, layout).cells, SHORTEST), 1)
        return Sizes(len(rows) * cells, cells, targets)

    return sizing


def powers(first: int, last: int) -> list[int]:
    """``first`` doubled again and again, until it holds ``last``.

    >>> powers(32, 65)
    [32, 64, 128]
    """
    return [first] if last <= first else [first, *powers(2 * first, last)]


def open_runs(runs: Sequence[AnyPath]) -> tuple[Pretrained, Mapping[str, Ready]]:
    """The one backbone of several runs, and their tasks by name."""
    first, _ = trained(runs[0])
    cards = {}
    for run in runs:
        config, name = trained(run)
        cards[run] = load_prompt(run, name)[1]
        others = [f.name for f in fields(config) if f.name not in ("name", "remat")]
        different = [name for name in others if getattr(config, name) != getattr(first, name)]
        if cards[run].backbone_hash != cards[runs[0]].backbone_hash:
            different = ["name"]
        if different:
            what = f"model.{different[0]}"
            raise UserError(
                f"{run}: {what} is {getattr(config, different[0])}, and {getattr(first, different[0])} in "
                f"{runs[0]}; a server has one backbone: start another for this run"
            )
    pretrained, opened = load_pretrained(**asdict(first)), {}
    for run, card in cards.items():
        for task in dict.fromkeys(card.prompts):
            if task in opened:
                raise UserError(f"{run}: task '{task}' is served already, from another run; leave one out")
            opened[task] = open_run(run, task, 0, pretrained)
    return pretrained, opened
