"""What a compiled program sends between its devices, read from its text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(?:-start)?\(")
_WHILE = re.compile(r" while\(.*body=%?([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply|branch_computations)=\{?((?:%?[\w.-]+(?:, )?)+)\}?")
_ARRAY = re.compile(r"\b([a-z]+)(\d+)[a-z0-9]*\[([\d,]*)\]")


def collective_bytes(program: str) -> dict[str, int]:
    """Bytes of what each kind of collective gives one device, in one run of a program.

    A collective in a loop counts as often as the loop runs.

    Args:
        program: optimised HLO, as ``jit(f).lower(...).compile().as_text()`` has it.

    >>> collective_bytes('''ENTRY %main (x: f32[2,3]) -> f32[2,3] {
    ...   ROOT %sum = f32[2,3]{1,0} all-reduce(%x), to_apply=%add
    ... }''')
    {'all-reduce': 24}
    """
    bodies, entry = _computations(program)
    found = _count(entry, bodies)
    return {kind: found[kind] for kind in KINDS if found[kind]}


def _computations(program: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the one that is run."""
    bodies: dict[str, list[str]] = {}
    name = entry = ""
    for line in program.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[1]
            bodies[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif name:
            bodies[name].append(line)
    return bodies, entry


def _count(name: str, bodies: Mapping[str, list[str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in bodies.get(name, ()):
        if match := _COLLECTIVE.search(line):
            found[match[2]] += _bytes(match[1])
        elif match := _WHILE.search(line):
            trips = _TRIPS.search(line)
            inner = _count(match[1], bodies)
            found.update({kind: count * int(trips[1] if trips else 1) for kind, count in inner.items()})
        elif match := _CALLED.search(line):
            for called in match[1].replace("%", "").split(", "):
                found.update(_count(called, bodies))
    return found


def _bytes(shapes: str) -> int:
    """The size of an array's type, or of all arrays' of a tuple."""
    return sum(
        math.prod(int(length) for length in lengths.split(",") if length) * max(int(bits) // 8, 1)
        for _, bits, lengths in _ARRAY.findall(shapes)
    )
