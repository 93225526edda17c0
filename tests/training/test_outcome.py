"""A stage that has learnt nothing says so."""

from __future__ import annotations

import pytest

from mpt.errors import UserError
from mpt.training.outcome import refuse_all_left_out, warn_of_few_rows, warn_of_rising


def test_a_stage_without_a_finite_step_is_an_error():
    refuse_all_left_out("run/adapted", 0, 0)
    refuse_all_left_out("run/adapted", 4, 3)
    with pytest.raises(UserError, match=r"run/adapted: .* not finite in any of its 4 steps"):
        refuse_all_left_out("run/adapted", 4, 4)


@pytest.mark.parametrize(
    ("losses", "warned"),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 0.5], False),
        ([1.0, 1.5], True),
        ([0.6921, 0.6924], False),  # which three digits do not show
        ([1.0] * 9 + [3.0] * 9, True),
        ([0.07, 0.11, 0.05, 0.09, 0.06, 0.12, 0.05, 0.12], False),  # one row's loss and another's
        ([0.07, 0.11, 0.05, 0.09, 0.26, 0.32, 0.25, 0.32], True),
    ],
)
def test_a_loss_that_rises_is_told(capsys, losses, warned):
    warn_of_rising("run/adapted", losses)
    assert ("run/adapted: the loss rose" in capsys.readouterr().err) == warned


def test_fewer_rows_than_a_step_has_are_told(capsys):
    warn_of_few_rows(["mood", "mood"], 8, 8)
    assert not capsys.readouterr().err
    warn_of_few_rows(["mood", "mood"], 7, 8)
    assert "warning: 7 training rows of mood, fewer than the 8 of a step" in capsys.readouterr().err
