"""The chips that a run can be planned for, and how a compiler for them is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mpt.errors import UserError, require

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """What one chip has.

    Attributes:
        memory: bytes of its main memory.
        flops: peak FLOP/s of matrix products in bfloat16; float32's go through the same units.
        bandwidth: bytes/s between the chip and its memory.
        links: bytes/s that it can send to its neighbours, over all its links.
        clock: cycles/s; 0 where the compiler counts none.
    """

    memory: float
    flops: float
    bandwidth: float
    links: float
    clock: float = 0.0


# From Google's pages on each, https://cloud.google.com/tpu/docs/v5e, .../v5p and .../v6e.
TPUS = {
    "v5e": Chip(16 * GIB, 197e12, 800e9, 200e9, 1.5e9),
    "v5p": Chip(95 * GIB, 459e12, 2765e9, 600e9, 1.75e9),
    "v6e": Chip(32 * GIB, 918e12, 1600e9, 400e9, 1.75e9),
}
FORMS = "v5e:4x4, v6e:8x8, v5p:4x4x4"


@dataclass(frozen=True)
class Topology:
    """So many chips of a kind, and how they are wired: "v5e:4x4" is a square of 16.

    >>> Topology.of("v5p:4x4x4").chips
    64
    """

    name: str
    kind: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str) -> Topology:
        """
        Raises:
            UserError: there are no such chips, or not in such a shape.
        """
        found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
        kind, shape = (found[1], tuple(map(int, found[2].split("x")))) if found else ("", ())
        if kind not in TPUS or len(shape) != (3 if kind == "v5p" else 2) or not all(shape):
            raise UserError(
                f"--topology '{name}': not known; write {', '.join(TPUS)} and a shape, as in {FORMS}"
            )
        return cls(name, kind, shape)

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def chip(self) -> Chip:
        return TPUS[self.kind]

    def check_installed(self) -> None:
        """Refuses to plan without the TPU compiler."""
        require("libtpu", "plan", "--topology")

    def environment(self) -> Mapping[str, str]:
        """What must stand in a process's environment before JAX is imported there.

        The compiler then looks for no chip of its own, asks no metadata server what machine this is, and
        takes no lock on chips that it does not use: several can compile side by side.

        Raises:
            UserError: the compiler is not installed.
        """
        self.check_installed()
        import libtpu

        return {
            "TPU_LIBRARY_PATH": libtpu.get_library_path(),
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_COMPILATION_CACHE": "false",  # it keeps programs that run here
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_ACCELERATOR_TYPE": f"{self.kind}-{self.chips}",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "TPU_MIN_LOG_LEVEL": "3",
            "TPU_STDERR_LOG_LEVEL": "3",
        }
