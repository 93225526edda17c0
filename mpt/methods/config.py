"""The options of an adaptation: those that all methods have, and each method's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, make_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mpt.config.options import AdaptOptions
from mpt.data.task import Task
from mpt.methods.record import Method
from mpt.methods.table import METHODS

AUTO = "auto"  # the method that suits the tasks

if TYPE_CHECKING:
    # The methods' fields are added when the program runs; they are read through ``options_of``.
    AdaptConfig = AdaptOptions
else:
    AdaptConfig = make_dataclass(
        "AdaptConfig",
        [
            ("method", Literal[AUTO, *METHODS], field(default=AUTO)),
            *(
                (name, method.options, field(default_factory=method.options))
                for name, method in METHODS.items()
                if method.options
            ),
        ],
        bases=(AdaptOptions,),
        frozen=True,
        namespace={
            "__doc__": "`mpt adapt`: new tasks from few examples; each seed draws its own examples.",
            "__module__": __name__,
        },
    )


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
