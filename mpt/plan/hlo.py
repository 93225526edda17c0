"""Compiled programs, read from their text: what they run, and how often."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$")
_NAME = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(r"\b(?:calls|to_apply|branch_computations)=\{?((?:%[\w.-]+(?:, )?)+)")
_LOOP = re.compile(r"condition=%([\w.-]+), body=%([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"^(\d+)\)")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)[a-z0-9]*\[([\d,]*)\](?:\{([^}]*)\})?")

# These stand for a computation that is run in their place.
_CALLS = ("call", "conditional", "async-start")


class Instruction(NamedTuple):
    """One line of a computation: ``name = type opcode(operands), rest``."""

    name: str
    type: str
    opcode: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        return _NAME.findall(self.rest.partition(")")[0])

    @property
    def called(self) -> list[str]:
        """The computations that it names, but for a loop's."""
        found = _CALLED.search(self.rest)
        return _NAME.findall(found[1]) if found else []


Computation = Mapping[str, Instruction]


class Program(NamedTuple):
    """A program's computations by name, and the one that is run."""

    computations: Mapping[str, Computation]
    entry: str

    @classmethod
    def of(cls, text: str) -> Program:
        """Reads optimised HLO, as ``jit(f).lower(...).compile().as_text()`` has it."""
        computations: dict[str, dict[str, Instruction]] = {}
        inside: dict[str, Instruction] = {}
        entry = ""
        for line in text.splitlines():
            if opened := _COMPUTATION.match(line):
                inside = computations[opened[2]] = {}
                entry = opened[2] if opened[1] else entry
            elif found := _INSTRUCTION.match(line):
                inside[found[2]] = Instruction(found[2], found[3], found[4], found[5], bool(found[1]))
        return cls(computations, entry)

    def executed(self) -> Iterator[tuple[Computation, int]]:
        """Every computation that is run, and how often; one that is part of an instruction is not."""
        return self._executed(self.entry, 1)

    def _executed(self, name: str, times: int) -> Iterator[tuple[Computation, int]]:
        computation = self.computations[name]
        yield computation, times
        for instruction in computation.values():
            if loop := _LOOP.search(instruction.rest):
                yield from self._executed(loop[2], times * self._trips(instruction, loop[1]))
            elif instruction.opcode in _CALLS:
                for called in instruction.called:
                    yield from self._executed(called, times)

    def _trips(self, loop: Instruction, condition: str) -> int:
        """How often a loop runs: as the compiler says, or the bound in its condition; 1 if neither is."""
        if known := _TRIPS.search(loop.rest):
            return int(known[1])
        # JAX counts from 0 up to a bound, the only number in the condition.
        lines = self.computations[condition].values()
        bounds = [_BOUND.match(line.rest) for line in lines if line.opcode == "constant"]
        return int(bounds[0][1]) if len(bounds) == 1 and bounds[0] else 1


def sizes(type: str) -> list[tuple[int, bool]]:
    """The bytes of each array of a type, and whether it lies in the device's main memory.

    >>> sizes("(bf16[2,3]{1,0:T(8,128)S(1)}, pred[])")
    [(12, False), (1, True)]
    """
    found = []
    for kind, bits, lengths, layout in _ARRAY.findall(type):
        count = math.prod(int(length) for length in lengths.split(",") if length)
        width = int(bits or (8 if kind == "pred" else 0))
        found.append((count * width // 8, "S(" not in layout or "S(0)" in layout))
    return found
