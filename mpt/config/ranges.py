"""The range of every option that is a number, checked in one place."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from mpt.errors import UserError


class Range(NamedTuple):
    """The numbers from ``least`` to ``most``; without ``least`` itself if ``open``."""

    least: float = 0
    most: float = math.inf
    open: bool = False

    def holds(self, number: float) -> bool:
        """Whether a number is in the range; a number that is not finite never is."""
        above = number > self.least if self.open else number >= self.least
        return math.isfinite(number) and above and number <= self.most

    def __str__(self) -> str:
        start = f"above {self.least}" if self.open else f"{self.least} or more"
        return start if self.most == math.inf else f"{start}, up to {self.most}"


AT_LEAST_1, ABOVE_0 = Range(1), Range(open=True)
SEED = Range(0, 2**32 - 1)  # the seeds that the data loader accepts

# Every other number is 0 or more. "section.name" takes precedence over "name".
RANGES: dict[str, Range] = {
    "batch_size": AT_LEAST_1,
    "max_length": AT_LEAST_1,
    "validation_rows": AT_LEAST_1,
    "share_cap": AT_LEAST_1,
    "microbatches": AT_LEAST_1,
    "processes": AT_LEAST_1,
    "tries": AT_LEAST_1,
    "save_every": AT_LEAST_1,
    "bad_steps": AT_LEAST_1,
    "temperature": ABOVE_0,
    "factors": ABOVE_0,
    "rates": ABOVE_0,
    "shares": ABOVE_0,
    "warmup": Range(0, 1),
    "goal": Range(0, 1),
    "interpolation": Range(0, 1),
    "seed": SEED,
    "seeds": SEED,
    "tune.seeds": Range(),  # a count
    "search.rows": AT_LEAST_1,
    "search.every": AT_LEAST_1,
    "search.patience": AT_LEAST_1,
    "adept.width": AT_LEAST_1,
    "attempt.width": AT_LEAST_1,
    "dept.rank": AT_LEAST_1,
    "lora.rank": AT_LEAST_1,
    "context.tokens": AT_LEAST_1,
    "context.dropout": Range(0, 1),
    "ulpt.rank": AT_LEAST_1,
    "instruction": Range(-1),  # -1: the instruction's own length
    "steps": Range(-1),  # -1: until the held-out loss no longer improves
    "data": Range(-1),  # -1: the devices that other axes leave
    "fsdp": Range(-1),
    "tensor": Range(-1),
}
NEVER_EMPTY = {"seeds", "rates"}


def check_ranges(config: Any, section: str = "") -> None:
    """Checks every number of a config and of its sections.

    Raises:
        UserError: a number is out of its range, or not finite; the error has the option's dotted name.
    """
    for name in (field.name for field in dataclasses.fields(config)):
        value: Any = getattr(config, name)
        full = f"{section}{name}"
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{full}.")
            continue
        if name in NEVER_EMPTY and value == ():
            raise UserError(f"{full}: give one or more")
        numbers: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if type(number) in (int, float):
                refuse_outside(full, number)


def refuse_outside(full: str, number: float) -> None:
    """Checks one option's number; see ``check_ranges``."""
    allowed = RANGES.get(".".join(full.split(".")[-2:])) or RANGES.get(full.split(".")[-1], Range())
    if not allowed.holds(number):
        raise UserError(f"{full}: it must be {allowed}, not {number}")
