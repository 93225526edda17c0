"""How long until the first step: of `mpt --help`, and of training on SmolLM2-135M, cold and warm.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import work
from duel import Worker, report


def to_first_step(folder: Path, compiled: Path, batches: list) -> float:
    """Seconds from starting a process to the end of its first step."""
    given = work.write(folder, batches, work.prompts(1, 100, 576))
    environment = {"JAX_COMPILATION_CACHE_DIR": str(compiled)}
    began = time.perf_counter()
    with Worker("mpt_worker", environment=environment, model=work.SMOLLM2, gate=False, **given) as mpt:
        mpt.ask(number=0)
        return time.perf_counter() - began


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    help_times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mpt.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        help_times.append(time.perf_counter() - began)
    batches = work.texts(["tweets"], 32, 1, 64)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cold = to_first_step(folder, folder / "compiled", batches)
        warm = median(to_first_step(folder, folder / "compiled", batches) for _ in range(3))
    report("startup", [{"mpt --help s": median(help_times), "cold s": cold, "warm s": warm}])


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main()
