"""What a compiled program moves to and from a device's memory, and how long its compiler thinks it takes."""

from __future__ import annotations

import re

from mpt.plan.hlo import Computation, Instruction, Program, sizes

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')

# These move nothing: they name, or what they name is counted where it is run.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional",
    "after-all", "partition-id", "replica-id", "opt-barrier", "custom-call",
}  # fmt: skip


def cycles(program: Program) -> int:
    """The clock cycles that a TPU's compiler writes at its instructions, loops multiplied out.

    It writes none at what goes between chips.
    """
    return sum(
        times * int(found[1])
        for computation, times in program.executed()
        for instruction in computation.values()
        if (found := _CYCLES.search(instruction.rest))
    )


def traffic(program: Program) -> int:
    """Bytes read from and written to the main memory in one run.

    What lies in faster memory does not count; of an array that is only sliced, the slices do.
    """
    return sum(
        times * _moved(program, computation, instruction)
        for computation, times in program.executed()
        for instruction in computation.values()
        if instruction.opcode not in _FREE and not instruction.opcode.endswith("-done")
    )


def _moved(program: Program, computation: Computation, instruction: Instruction) -> int:
    read = [_main(computation[name]) if name in computation else 0 for name in instruction.operands]
    if instruction.opcode in ("dynamic-slice", "gather"):
        return 2 * _main(instruction)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * read[1]
    if instruction.opcode != "fusion":
        return sum(read) + _main(instruction)
    inside = program.computations[instruction.called[0]]
    read = [min(size, _read_of(program, inside, place)) for place, size in enumerate(read)]
    return sum(read) + min(_main(instruction), _written(inside))


def _main(instruction: Instruction) -> int:
    return sum(size for size, main in sizes(instruction.type) if main)


def _all(instruction: Instruction) -> int:
    return sum(size for size, _ in sizes(instruction.type))


def _read_of(program: Program, inside: Computation, place: int) -> int:
    """Bytes that a fused computation reads of its parameter ``place``."""
    name = next(
        line.name
        for line in inside.values()
        if line.opcode == "parameter" and line.rest.startswith(f"{place})")
    )
    total = 0
    for user in inside.values():
        for at in (at for at, operand in enumerate(user.operands) if operand == name):
            if user.opcode in ("dynamic-slice", "gather") and at == 0:
                total += _all(user)
            elif user.opcode == "fusion":
                total += _read_of(program, program.computations[user.called[0]], at)
            elif user.opcode != "dynamic-update-slice" or at != 0:  # that one is updated in place
                total += _all(inside[name])
    return total


def _written(inside: Computation) -> int:
    """Bytes that a fused computation writes: of what it updates, the update."""
    root = next(line for line in inside.values() if line.root)
    parts = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root]
    return sum(
        _all(inside[part.operands[1]]) if part.opcode == "dynamic-update-slice" else _all(part)
        for part in parts
    )
