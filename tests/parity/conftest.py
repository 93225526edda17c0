"""Collects the largest relative differences and prints them as a table."""

from __future__ import annotations

import numpy as np
import pytest

DIFFERENCES: dict[str, dict[str, float]] = {}
LIMIT = 1e-4


@pytest.fixture
def compare():
    """Asserts that two arrays agree, relative to the largest value, and notes how well."""

    def compare(family: str, quantity: str, ours, theirs, limit: float = LIMIT) -> None:
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        row = DIFFERENCES.setdefault(family, {})
        row[quantity] = max(difference, row.get(quantity, 0.0))
        assert difference < limit, f"{family}: {quantity} differ by {difference:.1e}"

    return compare


def pytest_terminal_summary(terminalreporter):
    if not DIFFERENCES:
        return
    columns = list(dict.fromkeys(quantity for row in DIFFERENCES.values() for quantity in row))
    terminalreporter.section("parity with transformers and peft: largest relative difference")
    terminalreporter.line(" " * 14 + "".join(f"{column:>18}" for column in columns))
    for family, row in DIFFERENCES.items():
        cells = (f"{row[column]:.1e}" if column in row else "" for column in columns)
        terminalreporter.line(f"{family:14}" + "".join(f"{cell:>18}" for cell in cells))
