"""Asks a process of its own to compile, and ends it when it takes too long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from mpt.config.yaml_file import from_plain, to_plain
from mpt.errors import UserError
from mpt.plan.chips import Chip
from mpt.plan.job import Estimate, Job

START = 120.0  # seconds in which a process that only looks at its devices must have answered


def compiled(job: Job, environment: Mapping[str, str], patience: float) -> Estimate:
    """What a job takes; where it could not be compiled within ``patience`` seconds, that.

    Args:
        environment: what the compiler must find there; see ``Topology.environment``.
    """
    try:
        return Estimate(**_asked(to_plain(job), environment, patience))
    except subprocess.TimeoutExpired:
        return Estimate(fault=f"not compiled within {patience:.0f} s")
    except UserError as error:
        return Estimate(fault=str(error))


def devices_here(dtype: str) -> tuple[int, Chip]:
    """How many devices are at hand, and what one can do, as measured."""
    answer = _asked({"here": dtype}, {}, START)
    return answer["count"], from_plain(Chip, answer["chip"], "devices")


def _asked(order: dict[str, Any], environment: Mapping[str, str], patience: float) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "mpt.plan.compiled"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=patience,
        env=os.environ | environment,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"it ended with status {ended.returncode}"]
        raise UserError(f"the compiler failed: {lines[-1]}")
    return json.loads(ended.stdout.splitlines()[-1])
