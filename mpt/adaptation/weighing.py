"""How the scores of a trained class head are weighed, and those of linear probes beside them."""

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
        probe: linear probes on states of a text without the prompt, each multiplied by its own scale; None:
            there are none.
        probe_scales: the scale of each probe's scores.
    """

    scale: float
    shift: Float[np.ndarray, " C"]
    probe: Float[np.ndarray, "C S D"] | None = None
    probe_scales: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls, held_out: Scores, splits: Sequence[Split], rows: Sequence[Row], states: States | None
    ) -> Weighing:
        """Weighs the scores by those of rows that they were not learned from.

        Args:
            held_out: the scores of the held-out rows of each split, one split after another.
            rows: all training rows, which the probes are fitted to in the end.
            states: the frozen model's states of a row, several of which have a probe each; None leaves
                probes out.
        """
        if states is None:
            (scale,), shift = Calibration.fit([held_out])
            return cls(float(scale), shift)
        count = held_out.log_p.shape[1]

        def of_held_out(split: Split) -> list[Float[np.ndarray, "R C"]]:
            bare = states(split.held_out)
            return [probe.scores(bare[:, i]) for i, probe in enumerate(_probes(split.learnt, states, count))]

        probed = zip(*map(of_held_out, splits))
        kinds = [Scores(np.concatenate(of_probe), held_out.labels) for of_probe in probed]
        (scale, *scales), shift = Calibration.fit([held_out, *kinds])
        probes = _probes(rows, states, count)
        weight = np.stack([factor * probe.weight for factor, probe in zip(scales, probes)], axis=1)
        shift = shift + sum(factor * probe.bias for factor, probe in zip(scales, probes))
        return cls(float(scale), shift, weight, tuple(map(float, scales)))

    def applied(self, model: Prompted) -> Prompted:
        """The model with its class head's scores as they are weighed."""
        assert isinstance(model.prompt, HeadedPrompt)
        return Prompted(model.backbone, model.prompt.rescored(self.scale, self.shift, self.probe))

    def told(self) -> str:
        """The weights, in a sentence."""
        scales = ", ".join(f"×{scale:.2g}" for scale in self.probe_scales)
        beside = f", those of three linear probes {scales}" if scales else ""
        return f"By the held-out rows, the prompt's scores count ×{self.scale:.2g}{beside}."


def _probes(rows: Sequence[Row], states: States, count: int) -> list[Probe]:
    """A probe on each state that is fitted to rows of ``count`` classes, at most the first ``MOST``."""
    rows = [rows[i] for i in range(min(len(rows), MOST))]
    labels = np.array([row.label for row in rows])
    return [Probe.fit(each, labels, count) for each in np.moveaxis(states(rows), 1, 0)]
