"""What all other parity tests rest on is still what torch, transformers and peft answer."""

from __future__ import annotations

import pytest


@pytest.mark.full
def test_golden_files_are_what_live_runs_give(torch, peft):
    import make_golden

    faults = make_golden.faults()
    assert not faults, "\n".join(["python tests/make_golden.py writes them anew", *faults])
