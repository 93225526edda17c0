"""How many programs a command of `mpt` compiles, how long that takes, and the command's whole time.

python benchmarks/compiles.py quickstart --out DIR      (any command of mpt, with its arguments)

The cache of compiled programs is empty at first, so a program that is compiled twice is counted twice or
read back: both are told. Figures are printed as one line of JSON after the command's own output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter

COMPILED = "/jax/core/compile/backend_compile_duration"
READ_BACK = "/jax/compilation_cache/cache_hits"


def main() -> int:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        began = time.perf_counter()
        from mpt import cli  # JAX reads where its cache is when it is imported
        from mpt.system.quiet import quiet

        quiet()
        import jax.monitoring

        times: Counter[str] = Counter()
        counts: Counter[str] = Counter()

        def lasted(event: str, seconds: float, **_: object) -> None:
            times[event] += seconds
            counts[event] += 1

        def happened(event: str, **_: object) -> None:
            counts[event] += 1

        jax.monitoring.register_event_duration_secs_listener(lasted)
        jax.monitoring.register_event_listener(happened)
        status = cli.main(sys.argv[1:])
        figures = {
            "programs": counts[COMPILED],
            "of these read back": counts[READ_BACK],
            "seconds compiling": round(times[COMPILED], 1),
            "seconds": round(time.perf_counter() - began, 1),
            "processor seconds": round(time.process_time(), 1),
            "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        print(json.dumps(figures))
        return status


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    sys.exit(main())
