"""Silences the messages of libraries, and sets up JAX's compilation cache."""

from __future__ import annotations

import logging
import os
import warnings
from glob import glob
from pathlib import Path


def quiet() -> None:
    """Sets environment variables for JAX and transformers before they are imported; existing ones stay."""
    from mpt.system.assets import cache_dir  # not at the top, so that `mpt --help` answers at once

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.filterwarnings("ignore", module="(orbax|grain|jax|flax|tensorflow|tqdm)")
    for library in ("absl", "gcsfs"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # failures are raised as exceptions anyway
    hide_compiler()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))


def hide_compiler() -> None:
    """Keeps JAX from loading the TPU compiler on a machine without a TPU.

    Loading it would fail, and log the failure at length on every start. So JAX is given the path of a file
    that is not a library.
    """
    vendors = (Path(file).read_text().strip() for file in glob("/sys/bus/pci/devices/*/vendor"))
    if "0x1ae0" not in vendors:  # Google's
        os.environ["TPU_LIBRARY_PATH"] = __file__
