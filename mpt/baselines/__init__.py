"""What a user might take instead of a trained prompt: learned from the same rows, scored on the same rows."""

from mpt.baselines.record import Baseline, Problem
from mpt.baselines.states import States
from mpt.baselines.table import BASELINES

__all__ = ["BASELINES", "Baseline", "Problem", "States"]
