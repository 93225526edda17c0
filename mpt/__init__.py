"""Multitask prompt tuning in JAX: universal soft prompts that transfer to new tasks.

Array shapes use these letters throughout:

======  ========================  ======  =======================
letter  dimension                 letter  dimension
======  ========================  ======  =======================
B       rows of a batch           N       attention heads
T       tokens of a row's text    K       key and value heads
L       label positions of a row  H       width of a head
P       prompt vectors            F       width of a feed-forward
J       prompts (tasks)           V       vocabulary
R       rank of a task's part     S       positions attended to
D       width of the model        C       choices of a row
======  ========================  ======  =======================
"""

from __future__ import annotations

import importlib

from mpt.version import __version__ as __version__

TYPE_CHECKING = False  # typing's own takes longer to import than all of this
if TYPE_CHECKING:
    from mpt.api import adapt, compare, continual, load, load_backbone, pretrain
    from mpt.catalog.from_python import make_task
    from mpt.comparison.config import CompareConfig, TuneConfig
    from mpt.config.continual import ContinualConfig
    from mpt.config.methods import AdaptConfig
    from mpt.config.options import MeshConfig, ModelConfig, PromptConfig, TrainConfig
    from mpt.config.pretrain import DistillConfig, PretrainConfig
    from mpt.data.task import Task
    from mpt.errors import UserError
    from mpt.run import ComparedRun, LoadedBackbone, Run, SequenceRun

__all__ = [
    "AdaptConfig",
    "CompareConfig",
    "ComparedRun",
    "ContinualConfig",
    "DistillConfig",
    "LoadedBackbone",
    "MeshConfig",
    "ModelConfig",
    "PretrainConfig",
    "PromptConfig",
    "Run",
    "SequenceRun",
    "Task",
    "TrainConfig",
    "TuneConfig",
    "UserError",
    "adapt",
    "compare",
    "continual",
    "load",
    "load_backbone",
    "make_task",
    "pretrain",
]

# What is not here is in `mpt.config.options`. JAX takes seconds, so a name is imported when it is first used.
HOMES = {
    "mpt.api": ("adapt", "compare", "continual", "load", "load_backbone", "pretrain"),
    "mpt.catalog.from_python": ("make_task",),
    "mpt.data.task": ("Task",),
    "mpt.errors": ("UserError",),
    "mpt.comparison.config": ("CompareConfig", "TuneConfig"),
    "mpt.config.continual": ("ContinualConfig",),
    "mpt.config.methods": ("AdaptConfig",),
    "mpt.config.pretrain": ("DistillConfig", "PretrainConfig"),
    "mpt.run": ("ComparedRun", "LoadedBackbone", "Run", "SequenceRun"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'mpt' has no attribute '{name}'")
    home = next((home for home, names in HOMES.items() if name in names), "mpt.config.options")
    if home in ("mpt.api", "mpt.run"):
        from mpt.system.quiet import quiet

        quiet()  # before JAX is there
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
