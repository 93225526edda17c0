"""From the options of an adaptation to its method, and that method's own options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mpt.config.methods import AUTO, AdaptConfig
from mpt.data.task import Task
from mpt.methods.record import Method


def for_tasks(config: AdaptConfig, tasks: Sequence[Task]) -> AdaptConfig:
    """The config with the method that suits its tasks, where it names none.

    It is prompt tuning: with a class head, if all tasks have class words.
    """
    if config.method != AUTO:
        return config
    return replace(config, method="classifier" if all(task.choices for task in tasks) else "prompt")


def options_of(config: AdaptConfig, method: Method) -> Any:
    """A method's own options; None where it has none."""
    return getattr(config, method.name) if method.options else None
