"""Which stack each layer of a model is in: layers of one kind are stacked, in the model's order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """Layers of one kind that follow one another.

    Attributes:
        kind: the name of their stack.
        first: the place of the first of them in the stack.
        last: the place after the last of them.
        number: the number of the first of them in the model.
    """

    kind: str
    first: int
    last: int
    number: int

    @property
    def size(self) -> int:
        """How many layers they are."""
        return self.last - self.first


class Cycle(NamedTuple):
    """Runs of layers that come again and again, in the same order and of the same lengths.

    Attributes:
        runs: those of the first round.
        rounds: how often they come.
    """

    runs: list[Run]
    rounds: int

    @property
    def layers(self) -> int:
        """Layers of a round."""
        return sum(run.size for run in self.runs)

    def of_kind(self, kind: str) -> int:
        """Layers of a kind in a round."""
        return sum(run.size for run in self.runs if run.kind == kind)


def places(kinds: Sequence[str]) -> list[tuple[str, int]]:
    """The stack of each layer, and its place there.

    >>> places(["delta", "delta", "full", "delta"])
    [('delta', 0), ('delta', 1), ('full', 0), ('delta', 2)]
    """
    counts = {kind: itertools.count() for kind in dict.fromkeys(kinds)}
    return [(kind, next(counts[kind])) for kind in kinds]


def runs(kinds: Sequence[str], span: tuple[int, int]) -> list[Run]:
    """The runs of layers of one kind, from one layer to before another.

    >>> runs(["delta", "delta", "full", "delta"], (1, 4))
    [Run(kind='delta', first=1, last=2, number=1), Run(kind='full', first=0, last=1, number=2), \
Run(kind='delta', first=2, last=3, number=3)]
    """
    numbered = list(enumerate(places(kinds)))[slice(*span)]
    found = []
    for kind, run in itertools.groupby(numbered, key=lambda layer: layer[1][0]):
        (number, (_, first)), *rest = run
        found.append(Run(kind, first, first + 1 + len(rest), number))
    return found


def cycles(found: list[Run]) -> list[Cycle]:
    """Runs that follow one another, gathered to cycles, of which the first are the longest.

    >>> [(len(cycle.runs), cycle.rounds) for cycle in cycles(runs(["a", "b", "b"] * 4 + ["c"], (0, 13)))]
    [(2, 4), (1, 1)]
    """
    gathered = []
    while found:
        cycle = max((_cycle(found, size) for size in range(1, len(found) + 1)), key=_reach)
        gathered.append(cycle)
        found = found[_reach(cycle) :]
    return gathered


def _cycle(found: list[Run], size: int) -> Cycle:
    """The cycle of the first ``size`` runs; if they do not come again, of the first one alone."""
    shapes = [(run.kind, run.size) for run in found]
    rounds = 1
    while shapes[size * rounds : size * (rounds + 1)] == shapes[:size]:
        rounds += 1
    return Cycle(found[:size], rounds) if rounds > 1 else Cycle(found[:1], 1)


def _reach(cycle: Cycle) -> int:
    return len(cycle.runs) * cycle.rounds
