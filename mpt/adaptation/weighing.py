"""How the scores of a trained class head are weighed, and the linear probe's beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mpt.adaptation.held_out import Calibration, Scores
from mpt.adaptation.probe import Probe
from mpt.adaptation.splits import Split
from mpt.baselines import States
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

MOST = 2000  # rows that a probe is fitted to


class Weighing(NamedTuple):
    """What becomes of the scores of a class head.

    Attributes:
        scale: what they are multiplied by.
        shift: what is added to each class's.
        probe: a linear probe on a state of a text without the prompt, multiplied by its own scale; None:
            there is none.
        probe_scale: the scale of the probe's scores; 0 without a probe.
    """

    scale: float
    shift: Float[np.ndarray, " C"]
    probe: Float[np.ndarray, "C D"] | None = None
    probe_scale: float = 0.0

    @classmethod
    def fit(
        cls, held_out: Scores, splits: Sequence[Split], rows: Sequence[Row], states: States | None
    ) -> Weighing:
        """Weighs the scores by those of rows that they were not learned from.

        Args:
            held_out: the scores of the held-out rows of each split, one split after another.
            rows: all training rows, which the probe is fitted to in the end.
            states: the frozen model's; None leaves the probe out.
        """
        if states is None:
            (scale,), shift = Calibration.fit([held_out])
            return cls(float(scale), shift)
        count = held_out.log_p.shape[1]
        probed = [_probe(split.learnt, states, count).scores(states(split.held_out)) for split in splits]
        (scale, probe_scale), shift = Calibration.fit(
            [held_out, Scores(np.concatenate(probed), held_out.labels)]
        )
        weight, bias = _probe(rows, states, count)
        return cls(float(scale), shift + probe_scale * bias, probe_scale * weight, float(probe_scale))

    def applied(self, model: Prompted) -> Prompted:
        """The model with its class head's scores as they are weighed."""
        assert isinstance(model.prompt, HeadedPrompt)
        return Prompted(model.backbone, model.prompt.rescored(self.scale, self.shift, self.probe))

    def told(self) -> str:
        """The weights, in a sentence."""
        beside = f", those of a linear probe ×{self.probe_scale:.2g}" if self.probe is not None else ""
        return f"By the held-out rows, the prompt's scores count ×{self.scale:.2g}{beside}."


def _probe(rows: Sequence[Row], states: States, count: int) -> Probe:
    """A probe that is fitted to rows of ``count`` classes, at most the first ``MOST``."""
    rows = [rows[i] for i in range(min(len(rows), MOST))]
    return Probe.fit(states(rows), np.array([row.label for row in rows]), count)
