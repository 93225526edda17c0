"""Warnings are said once where they are one run's, and anew in the next."""

import numpy as np
import pytest

from mpt.adaptation.draws import warn_of_few
from mpt.data.sources import Rows
from mpt.data.task import Task
from mpt.errors import warn, warnings_once


@warnings_once()
def part() -> None:
    warn("few")
    warn("few")


def test_a_run_says_a_warning_once_with_all_its_parts(capsys):
    with warnings_once():
        part()
        part()
        warn("other")
    assert capsys.readouterr().err == "mpt: warning: few\nmpt: warning: other\n"
    part()
    part()
    assert capsys.readouterr().err == 2 * "mpt: warning: few\n"


def test_a_run_that_fails_leaves_nothing_unsaid_for_the_next(capsys):
    with pytest.raises(ValueError), warnings_once():
        warn("few")
        raise ValueError
    part()
    assert capsys.readouterr().err == 2 * "mpt: warning: few\n"


@pytest.mark.parametrize(
    "counts, told",
    [
        ([3, 9], "3 training rows of 'w0'"),
        ([3, 2], "3 training rows of 'w0', 2 of 'w1'"),
        ([1] * 5, "1 training rows of 'w0', 1 of 'w1', 1 of 'w2', 1 of 'w3', 1 of 'w4'"),
        (
            [1] * 77,
            "1 training rows of 'w0', 1 of 'w1', 1 of 'w2', 1 of 'w3', 1 of 'w4', few of 72 more classes",
        ),
    ],
)
def test_classes_with_few_rows_are_told_in_one_line(counts, told, capsys):
    words = {str(i): f"w{i}" for i in range(len(counts))}
    labels = np.repeat(np.arange(len(counts)), counts)
    warn_of_few(Task("a", Rows({}), "{text}", words), labels, 8)
    assert capsys.readouterr().err == f"mpt: warning: task a has {told}, not 8; all are used\n"
    warn_of_few(Task("a", Rows({}), "{text}", words), labels, 1)
    assert not capsys.readouterr().err
