"""All methods by name."""

from __future__ import annotations

import importlib

from mpt.methods.record import Method

# Each is the name of a file beside this one.
NAMES = (
    "prompt",
    "classifier",
    "spot",
    "attempt",
    "ulpt",
    "dept",
    "adept",
    "prefix",
    "lora",
    "full",
    "examples",
)

METHODS: dict[str, Method] = {name: importlib.import_module(f"mpt.methods.{name}").METHOD for name in NAMES}
