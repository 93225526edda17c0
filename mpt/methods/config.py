"""The options of an adaptation: those that all methods have, and each method's own."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import TYPE_CHECKING, Any, Literal

from mpt.config.options import AdaptOptions
from mpt.methods.record import Method
from mpt.methods.table import METHODS

if TYPE_CHECKING:
    # The methods' fields are added when the program runs; they are read through ``options_of``.
    AdaptConfig = AdaptOptions
else:
    AdaptConfig = make_dataclass(
        "AdaptConfig",
        [
            ("method", Literal[tuple(METHODS)], field(default="prompt")),
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


def options_of(config: AdaptConfig, method: Method) -> Any:
    """A method's own options; None where it has none."""
    return getattr(config, method.name) if method.options else None
