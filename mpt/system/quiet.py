"""The libraries' chatter, kept off the screen, and what JAX compiles, kept for the next time."""

from __future__ import annotations

import logging
import os
import warnings
from glob import glob
from pathlib import Path


def quiet() -> None:
    """Sets what JAX and transformers read when they are imported; what is set already stays."""
    from mpt.system.assets import cache_dir  # not above: `mpt --help` is to answer at once

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.filterwarnings("ignore", module="(orbax|grain|jax|flax|tensorflow|tqdm)")
    for library in ("absl", "gcsfs"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # what fails is raised, too
    hide_compiler()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))


def hide_compiler() -> None:
    """Keeps JAX from starting the TPU compiler, where it is installed and no TPU is.

    That would fail, and the library say so at length on every start. It is told of a library that is none.
    """
    vendors = (Path(file).read_text().strip() for file in glob("/sys/bus/pci/devices/*/vendor"))
    if "0x1ae0" not in vendors:  # Google's
        os.environ["TPU_LIBRARY_PATH"] = __file__
