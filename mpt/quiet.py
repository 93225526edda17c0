"""The libraries' chatter, kept off the screen, and what JAX compiles, kept for the next time."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Sets what JAX and transformers read when they are imported; what is set already stays."""
    from mpt.assets import cache_dir  # not above: `mpt --help` is to answer at once
    from mpt.plan.chips import hide_compiler

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.filterwarnings("ignore", module="(orbax|grain|jax|flax|tensorflow|tqdm)")
    for library in ("absl", "gcsfs"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # what fails is raised, too
    hide_compiler()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
