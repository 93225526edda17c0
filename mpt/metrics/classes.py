"""Metrics of class words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from mpt.metrics.truth import Truth, targets


def accuracy(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """The share of rows that are right.

    >>> accuracy([Truth(("good",)), Truth(("bad",))], ["good", "good"])
    0.5
    """
    return fmean(right == found for right, found in zip(targets(truths), predictions, strict=True))


def f1(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """F1 of the positive class, the last of the choices; 0 where it is neither right nor predicted.

    GLUE takes "equivalent" (MRPC) and "duplicate" (QQP), the labels 1, as positive.

    >>> truths = [Truth((text,), choices=("no", "yes")) for text in ("yes", "no", "no")]
    >>> round(f1(truths, ["yes", "yes", "no"]), 3)
    0.667
    """
    from sklearn.metrics import f1_score

    positive = truths[0].choices[-1]
    right, found = ([text == positive for text in texts] for texts in (targets(truths), predictions))
    if not any(right + found):  # of which scikit-learn would warn
        return 0.0
    return float(f1_score(right, found))


def macro_f1(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """The mean over classes of each one's F1, as SuperGLUE scores CB.

    A class that is neither right nor predicted in any row has no F1, and is left out.
    """
    from sklearn.metrics import f1_score

    return float(f1_score(targets(truths), predictions, average="macro"))


def matthews(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """Matthews' correlation, as GLUE scores CoLA; 0 where all rows are, or are said to be, of one class."""
    from sklearn.metrics import matthews_corrcoef

    right = targets(truths)
    if len({*right, *predictions}) == 1:  # of which scikit-learn would warn
        return 0.0
    return float(matthews_corrcoef(right, predictions))


def questions_right(truths: Sequence[Truth], predictions: Sequence[str]) -> float:
    """The share of groups with every row right: MultiRC's exact match, a group being a question.

    >>> questions_right([Truth(("yes",), "q1"), Truth(("no",), "q1"), Truth(("no",), "q2")], ["yes"] * 3)
    0.0
    """
    right: dict[str, bool] = {}
    for truth, found in zip(truths, predictions, strict=True):
        right[truth.group] = right.get(truth.group, True) and found == truth.texts[0]
    return fmean(right.values())
