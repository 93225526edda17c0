"""Metrics of predicted classes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from mpt.metrics.truth import Truth, targets


def accuracy(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """The fraction of rows that are predicted correctly.

    >>> accuracy([Truth(("good",)), Truth(("bad",))], ["good", "good"])
    0.5
    """
    return fmean(target == text for target, text in zip(targets(truths), predictions, strict=True))


def f1(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """F1 of the positive class, the last of the choices; 0 if it is neither correct nor predicted anywhere.

    GLUE takes "equivalent" (MRPC) and "duplicate" (QQP), the labels 1, as positive.

    >>> truths = [Truth((text,), choices=("no", "yes")) for text in ("yes", "no", "no")]
    >>> round(f1(truths, ["yes", "yes", "no"]), 3)
    0.667
    """
    from sklearn.metrics import f1_score

    positive = truths[0].choices[-1]
    expected, predicted = ([text == positive for text in texts] for texts in (targets(truths), predictions))
    if not any(expected + predicted):  # scikit-learn would warn
        return 0.0
    return float(f1_score(expected, predicted))


def macro_f1(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """The mean of the F1 of all classes, as SuperGLUE scores CB.

    A class that is neither correct nor predicted in any row has no F1, and is left out.
    """
    from sklearn.metrics import f1_score

    return float(f1_score(targets(truths), predictions, average="macro"))


def matthews(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """Matthews' correlation, as GLUE scores CoLA; 0 if all targets, or all predictions, are of one class."""
    from sklearn.metrics import matthews_corrcoef

    expected = targets(truths)
    if len({*expected, *predictions}) == 1:  # scikit-learn would warn
        return 0.0
    return float(matthews_corrcoef(expected, predictions))


def questions_right(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """The fraction of groups in which every row is correct: MultiRC's exact match, with questions as groups.

    >>> questions_right([Truth(("yes",), "q1"), Truth(("no",), "q1"), Truth(("no",), "q2")], ["yes"] * 3)
    0.0
    """
    all_correct: dict[str, bool] = {}
    for truth, predicted in zip(truths, predictions, strict=True):
        all_correct[truth.group] = all_correct.get(truth.group, True) and predicted == truth.texts[0]
    return fmean(all_correct.values())
