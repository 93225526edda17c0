"""Converts packaged GGUF models to Hugging Face folders in the cache, which open several times as fast."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors.numpy import save_file

from mpt.loading.gguf.file import open_gguf
from mpt.rundir.directory import atomic_folder
from mpt.system.assets import cache_dir
from mpt.version import __version__


def converted(path: Path) -> Path:
    """The Hugging Face folder of the GGUF file ``path``, in float32; the first call converts it."""
    # A folder of another version of mpt is not used, as it may have read the file differently.
    key = hashlib.sha256(f"{path.absolute()} {path.stat().st_size} {__version__}".encode()).hexdigest()
    folder = cache_dir() / "converted" / f"{path.stem}-{key[:16]}"
    if folder.is_dir():
        return folder
    config, tokenizer, tensors = open_gguf(path)
    try:
        with atomic_folder(folder) as filled:
            config.save_pretrained(filled)
            tokenizer.save_pretrained(filled)
            save_file({name: tensors[name] for name in tensors}, filled / "model.safetensors")
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster
            raise
    return folder
