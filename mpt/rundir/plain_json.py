"""JSON that every reader takes: it has no word for NaN and infinities."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON, with null in place of numbers that are not finite.

    >>> json_text({"pearson": float("nan"), "losses": [0.5, float("inf")]})
    '{"pearson": null, "losses": [0.5, null]}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def with_nan(text: str) -> Any:
    """Figures that ``json_text`` has written, with NaN where it has null.

    >>> with_nan('{"scores": [0.5, null]}')
    {'scores': [0.5, nan]}
    """
    return _with_nan(json.loads(text))


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value
