"""Calibration of a trained class head's scores, together with those of linear probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from mpt.adaptation.held_out import Calibration, Scales, Scores
from mpt.adaptation.probe import Probe
from mpt.adaptation.splits import Split
from mpt.baselines import States
from mpt.metrics.decisions import f1_threshold
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

MOST = 2000  # rows that a probe is fitted to
FOLDS = 4  # of the cross-validation of probes beside an untrained prompt
# The scales of the scores of a prompt, and of a probe on each of three hidden states, to expect in any task.
ANY_TASK = Scales(np.array([0.7, 0.05, 0.05, 0.05]), np.array([2.0, 1.2, 1.2, 1.2]))
FIRM = 0.4  # the spread of a probe's scale around what an untrained prompt makes expect
POSITIVE = ("f1", "multirc_f1")  # metrics of the positive class, the second of two


class Weighing(NamedTuple):
    """The calibration of a class head's scores: a scale, a bias per class, and linear probes.

    Attributes:
        scale: the factor on the class head's scores.
        shift: the bias of each class.
        probe: linear probes on hidden states of a text without the prompt, each multiplied by its scale;
            None: there are none.
        probe_scales: the scale of each probe's scores.
        held_out: the calibrated scores of the held-out rows.
    """

    scale: float
    shift: Float[np.ndarray, " C"]
    held_out: Scores
    probe: Float[np.ndarray, "C S D"] | None = None
    probe_scales: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        held_out: Scores,
        splits: Sequence[Split],
        rows: Sequence[Row],
        states: States | None,
        before: Scales = ANY_TASK,
    ) -> Weighing:
        """Fits the calibration on held-out rows.

        Args:
            held_out: the scores of the held-out rows of each split, one split after another.
            rows: all training rows, to which the probes are finally fitted.
            states: the frozen model's hidden states of a row, with a probe for each; None leaves probes
                out.
            before: the scales of the prompt and of each probe that are expected before these rows are seen.
        """
        if states is None:
            (scale,), shift = Calibration.fit([held_out], before.first(1))
            return cls(float(scale), shift, held_out.moved(scale, shift))
        kinds = [held_out, *_probed(splits, states, held_out)]
        scales, shift = Calibration.fit(kinds, before)
        together = sum(scale * kind.log_p for scale, kind in zip(scales, kinds))
        scale, *scales = map(float, scales)
        probes = _probes(rows, states, held_out.log_p.shape[1])
        weight = np.stack([factor * probe.weight for factor, probe in zip(scales, probes)], axis=1)
        biases = sum(factor * probe.bias for factor, probe in zip(scales, probes))
        moved = Scores(np.asarray(together), held_out.labels).moved(shift=shift)
        return cls(scale, shift + biases, moved, weight, tuple(scales))

    def suited(self, metric: str, prior: Float[np.ndarray, " C"]) -> Weighing:
        """The same with the biases that are best for a metric.

        Accuracy weights all rows equally, so the class frequencies of the user's data are added. For F1, the
        best threshold of the positive class is below 0.5. Macro F1 weights all classes equally, as do the
        drawn rows.

        Args:
            prior: the log-ratio of each class's frequency in the user's data to that among the drawn rows.
        """
        if metric == "accuracy":
            return self._replace(shift=self.shift + prior)
        if metric in POSITIVE and len(prior) == 2:
            weights = np.exp(prior)[self.held_out.labels]
            threshold = f1_threshold(np.exp(self.held_out.moved(shift=prior).log_p[:, 1]), weights)
            return self._replace(shift=self.shift + prior - np.array([0.0, logit(threshold)]))
        return self

    def applied(self, model: Prompted) -> Prompted:
        """The model with calibrated scores."""
        assert isinstance(model.prompt, HeadedPrompt)
        return Prompted(model.backbone, model.prompt.rescored(self.scale, self.shift, self.probe))

    def told(self) -> str:
        """The weights, in a sentence."""
        scales = ", ".join(f"×{scale:.2g}" for scale in self.probe_scales)
        probes = f", those of three linear probes {scales}" if scales else ""
        return f"Weights fitted on held-out rows: the prompt's scores ×{self.scale:.2g}{probes}."


def expected(untrained: Scores, splits: Sequence[Split], states: States) -> Scales:
    """The scales to expect before a trained prompt's scores of held-out rows are seen.

    Few rows are held out from a trained prompt, and by chance a probe may be much better on these. But no row
    is known to an untrained prompt, and probes can be cross-validated. So scales that suit these are fitted
    to all training rows. Training improves the prompt and not the probes, of whose scales half is expected.

    Args:
        untrained: the untrained prompt's scores of the held-out rows of each split, one split after another.
        splits: the folds of all training rows.
    """
    (_, *scales), _ = Calibration.fit([untrained, *_probed(splits, states, untrained)], ANY_TASK)
    prompt, wide = ANY_TASK.expected[0], ANY_TASK.spread[0]
    return Scales(np.array([prompt, *(0.5 * np.array(scales))]), np.array([wide, *[FIRM] * len(scales)]))


def _probed(splits: Sequence[Split], states: States, held_out: Scores) -> list[Scores]:
    """The scores of the held-out rows of each split by a probe on each hidden state of the other rows.

    Args:
        held_out: other scores of the same rows.
    """
    count = held_out.log_p.shape[1]

    def of(split: Split) -> list[Float[np.ndarray, "R C"]]:
        bare = states(split.held_out)
        return [probe.scores(bare[:, i]) for i, probe in enumerate(_probes(split.learnt, states, count))]

    return [Scores(np.concatenate(each), held_out.labels) for each in zip(*map(of, splits))]


def _probes(rows: Sequence[Row], states: States, count: int) -> list[Probe]:
    """A probe on each hidden state, fitted to rows of ``count`` classes, at most the first ``MOST``."""
    rows = [rows[i] for i in range(min(len(rows), MOST))]
    labels = np.array([row.label for row in rows])
    return [Probe.fit(each, labels, count) for each in np.moveaxis(states(rows), 1, 0)]
