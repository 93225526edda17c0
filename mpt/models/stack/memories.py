"""What is kept of the layers of each kind for the tokens to come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mpt.models.stack.delta_rule import DeltaState


class Memories(NamedTuple):
    """What is kept of layers, by kind.

    Attributes:
        kv: keys and values, of kinds with attention that have their own.
        deltas: states, of kinds with the delta rule.
    """

    kv: dict[str, Any]
    deltas: dict[str, DeltaState]

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Memories:
        deltas = {kind: found for kind, found in kept.items() if isinstance(found, DeltaState)}
        others = {kind: found for kind, found in kept.items() if found is not None and kind not in deltas}
        return cls(others, deltas)
