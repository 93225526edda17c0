"""Files that are whole, or as they were."""

from __future__ import annotations

import os
from pathlib import Path


def replace_whole(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(scratch, path)
