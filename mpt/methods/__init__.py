"""The methods that adapt a frozen backbone, one file each, and the pretraining of universal prompts.

A method is a file that defines a record, ``METHOD``; ``mpt.config.methods`` has its name and its options.
"""

import importlib
from typing import get_args

from mpt.config.methods import AUTO, AdaptConfig, MethodName
from mpt.methods.config import for_tasks, options_of
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting, Train

__all__ = [
    "AUTO",
    "METHODS",
    "AdaptConfig",
    "Method",
    "Setting",
    "Start",
    "Train",
    "for_tasks",
    "options_of",
]

# Each name but "auto" is that of a file in this folder.
METHODS: dict[str, Method] = {
    name: importlib.import_module(f"mpt.methods.{name}").METHOD
    for name in get_args(MethodName)
    if name != AUTO
}
