"""A trained prompt is scored with the wording that it was trained with, whatever the task file has become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toys import write_task

import mpt
from mpt.errors import UserError

OPTIONS = {
    "vectors": {"length": 4},
    "max_length": 24,
    "train": {"steps": 4, "batch_size": 8},
    "baselines": False,
}


@pytest.fixture
def trained(tmp_path, tiny_model):
    """The file of a task, and a prompt with a class head that was trained on it."""
    file = write_task(tmp_path, "mood")
    backbone = mpt.load_backbone(str(tiny_model))
    run = mpt.adapt(backbone, str(file), tmp_path / "run", **OPTIONS)
    return file, run


def reworded(file: Path, **keys) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


@pytest.mark.parametrize(
    "keys",
    [{"verbalizer": {"no": "bad", "yes": "good"}}, {"template": "{text}"}],
    ids=["order of classes", "template"],
)
def test_a_task_file_that_has_changed_changes_no_score(trained, keys):
    file, run = trained
    before = run.evaluate()
    reworded(file, **keys)
    assert mpt.load(run.path).evaluate() == before


@pytest.mark.parametrize(
    "verbalizer", [{"no": "bad", "yes": "good"}, {"yes": "good", "no": "bad", "so": "we"}]
)
def test_other_classes_than_those_of_a_class_head_are_refused(trained, verbalizer):
    file, run = trained
    reworded(file, verbalizer=verbalizer)
    with pytest.raises(UserError, match=r"trained on the labels yes, no, in this order.*adapt to it again"):
        mpt.load(run.path).evaluate(str(file))
