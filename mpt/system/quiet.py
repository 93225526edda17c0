"""Silences the messages of libraries, and sets up JAX's compilation cache."""

from __future__ import annotations

import logging
import os
import sys
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
    # JAX keeps programs that took a second; a command has about a hundred that take less, seconds in all.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def keep_torch_out() -> None:
    """Imports the libraries that import PyTorch wherever it is installed, while it is out of their sight.

    mpt has no use of it, and it takes as long to import as all else together. What imports it by name later
    gets it.
    """
    if "torch" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tensorboardX  # noqa: F401
        from transformers.utils import is_torch_available

        is_torch_available()  # which remembers its answer
    finally:
        del sys.modules["torch"]


def hide_compiler() -> None:
    """Keeps JAX from loading the TPU compiler on a machine without a TPU.

    Loading it would fail, and log the failure at length on every start. So JAX is given the path of a file
    that is not a library.
    """
    vendors = (Path(file).read_text().strip() for file in glob("/sys/bus/pci/devices/*/vendor"))
    if "0x1ae0" not in vendors:  # Google's
        os.environ["TPU_LIBRARY_PATH"] = __file__
