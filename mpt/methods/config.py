"""From the options of an adaptation to its method, and that method's own options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mpt.config.methods import AdaptConfig, suited
from mpt.data.task import Task
from mpt.methods.record import Method


def for_tasks(config: AdaptConfig, tasks: Sequence[Task]) -> AdaptConfig:
    """The config with the method that suits its tasks, where it names none."""
    return replace(config, method=suited(config.method, all(task.choices for task in tasks)))


def options_of(config: AdaptConfig, method: Method) -> Any:
    """A method's own options; None where it has none."""
    return getattr(config, method.name) if method.options else None
