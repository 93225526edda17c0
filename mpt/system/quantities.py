"""Numbers and times as a person reads them."""

from __future__ import annotations


def short(value: float) -> str:
    """A number with two significant digits, or as an integer from 10 on."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """A time as a person says it.

    >>> [duration(seconds) for seconds in (0.2, 42, 90, 840, 5400, 180_000)]
    ['1 s', '42 s', '1.5 min', '14 min', '1.5 h', '50 h']
    """
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    size, unit = (60, "min") if seconds < 3600 else (3600, "h")
    return f"{short(seconds / size)} {unit}"
