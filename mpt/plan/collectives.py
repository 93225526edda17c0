"""What a compiled program sends between its devices, read from its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mpt.plan.hlo import Computation, Instruction, Program, sizes

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


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
    parsed, found = Program.of(program), Counter[str]()
    for computation, times in parsed.executed():
        for instruction in _with_fused(parsed, computation):
            kind = instruction.opcode.removesuffix("-start")
            if kind in KINDS:
                found[kind] += times * _given(instruction)
    return {kind: found[kind] for kind in KINDS if found[kind]}


def _with_fused(program: Program, computation: Computation) -> Iterator[Instruction]:
    for instruction in computation.values():
        yield instruction
        if instruction.opcode == "fusion":
            for called in instruction.called:
                yield from _with_fused(program, program.computations[called])


def _given(collective: Instruction) -> int:
    """The bytes of its result; one that has only started has its operand before that in a tuple."""
    arrays = [size for size, _ in sizes(collective.type)]
    if collective.opcode in ("all-gather-start", "collective-permute-start") and len(arrays) > 1:
        return arrays[1]
    return sum(arrays)
