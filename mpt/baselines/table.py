"""All baselines by name."""

from __future__ import annotations

from mpt.baselines.copy_input import COPY_INPUT
from mpt.baselines.counting_words import COUNTING_WORDS
from mpt.baselines.largest_class import LARGEST_CLASS
from mpt.baselines.linear_probe import LINEAR_PROBE
from mpt.baselines.record import Baseline

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline for baseline in (LARGEST_CLASS, COUNTING_WORDS, LINEAR_PROBE, COPY_INPUT)
}
