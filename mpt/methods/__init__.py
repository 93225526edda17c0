"""The methods that adapt a frozen backbone, one file each, and the pretraining of universal prompts.

A method is a file that defines a record, ``METHOD``; ``mpt.config.methods`` has its name and its options.
"""

from mpt.config.methods import AUTO, AdaptConfig
from mpt.methods.config import for_tasks, options_of
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting, Train
from mpt.methods.table import METHODS

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
