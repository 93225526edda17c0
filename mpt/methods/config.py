"""Chooses the method of an adaptation, and finds that method's own options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpt.config.methods import AUTO, AdaptConfig, suited
from mpt.data.task import Task
from mpt.methods.record import Method
from mpt.rundir.found import VECTORS
from mpt.system.paths import PACKAGED, bank_path

FEW = 8  # examples per class; with 16, the packaged prompt was no better (docs/universal.md)


def for_tasks(config: AdaptConfig, tasks: Sequence[Task]) -> AdaptConfig:
    """The config with "auto" replaced by the method and the initial prompt that are chosen for its tasks."""
    config = replace(config, method=suited(config.method, all(task.choices for task in tasks)))
    if config.prompt != AUTO:
        return config
    inside = any(task.place == "user" for task in tasks)  # the packaged prompts stand in every layer
    return replace(config, prompt="" if inside else _packaged_start(config))


def _packaged_start(config: AdaptConfig) -> str:
    """The universal prompt that comes with mpt for the model; "" if there is none, or it does not help.

    It helps with few examples, and does no harm if a search compares it with a start from scratch.
    """
    few = 0 < config.shots <= FEW and config.shots_per == "class"
    is_compared = config.train.is_open and config.search.scratch and not (config.also or config.freeze_shared)
    has_own_shape = (config.vectors, config.instruction) != (AdaptConfig.vectors, AdaptConfig.instruction)
    if config.method != "classifier" or config.baseline or has_own_shape or not (few and is_compared):
        return ""
    there = Path(bank_path(PACKAGED), f"{config.model.name}{VECTORS}")
    return f"{PACKAGED}/{config.model.name}" if there.is_file() else ""


def options_of(config: AdaptConfig, method: Method) -> Any:
    """A method's own options; None if it has none."""
    return getattr(config, method.name) if method.options else None
