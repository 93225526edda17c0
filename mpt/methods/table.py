"""All methods by name."""

from __future__ import annotations

import importlib
from typing import get_args

from mpt.config.methods import AUTO, MethodName
from mpt.methods.record import Method

# Each is the name of a file in this folder.
NAMES = [name for name in get_args(MethodName) if name != AUTO]

METHODS: dict[str, Method] = {name: importlib.import_module(f"mpt.methods.{name}").METHOD for name in NAMES}
