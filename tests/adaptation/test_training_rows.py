"""Which training rows a seed draws, and what is told of them."""

import numpy as np
import pytest
from toys import toy_rows, write_task

from mpt import cli
from mpt.adaptation.draws import training_rows, warn_of_absent
from mpt.catalog.library import find_task

THREE = {"yes": "good", "no": "bad", "so": "so"}


@pytest.fixture
def absent(tmp_path):
    """A task with a class that no training row has."""
    return str(
        write_task(tmp_path, "mine", toy_rows("tone"), verbalizer=THREE, source={"train": "mine.jsonl"})
    )


@pytest.mark.parametrize(("shots", "per"), [(0, "class"), (4, "class"), (4, "task")])
def test_class_without_a_training_row_is_told(capsys, absent, pretrained, shots, per):
    training_rows(find_task(absent), shots, [0, 1], 24, pretrained, per)
    assert "mpt: warning: task mine has 0 training rows of 'so'" in capsys.readouterr().err


def test_classes_with_rows_are_not_told(capsys, toy, pretrained):
    training_rows(find_task(toy["tone"]), 0, [0], 24, pretrained)
    assert capsys.readouterr().err == ""


def test_class_that_one_seed_does_not_draw_is_told(capsys, absent):
    warn_of_absent(find_task(absent), np.array([0, 1, 2]), np.array([1, 2]))
    assert capsys.readouterr().err.count("'") == 2


def test_check_tells_of_a_class_without_a_row(capsys, absent):
    assert cli.main(["tasks", "check", absent]) == 0
    assert "0 training rows of 'so'" in capsys.readouterr().out
