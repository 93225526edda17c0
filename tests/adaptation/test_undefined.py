"""A metric that has no value leaves a run's files valid, and the run says so."""

import json

import numpy as np
import pytest
from toys import toy_rows

import mpt
from mpt import cli
from mpt.metrics import METRICS
from mpt.rundir.plain_json import json_text, with_nan


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    """An adaptation whose metric is undefined for the second seed's answers."""
    asked = iter([0.5] * 18 + [np.nan] * 100)
    monkeypatch.setitem(METRICS, "accuracy", lambda truths, predictions: next(asked))
    task = mpt.make_task(toy_rows("mood"), "mood", instruction="Is it good?")
    options = {"shots": 4, "max_length": 24, "test_rows": 16, "method": "prompt", "baselines": False}
    return mpt.adapt(
        mpt.load_backbone(tiny_model), task, tmp_path / "run", seeds=(0, 1), train={"steps": 0}, **options
    )


def test_undefined_metric_is_null_and_told(run, capsys):
    (plain,) = json.loads((run.path / "results.json").read_text(), parse_constant=pytest.fail)
    assert plain["scores"] == [0.5, None]
    assert (
        "1 of 2 seeds has no accuracy: it is undefined for the predictions on these rows." in plain["remarks"]
    )
    for file in run.path.rglob("*.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
    np.testing.assert_equal(run.results[0].scores, [0.5, np.nan])
    assert "mood: accuracy –" in repr(run)
    assert "test accuracy" not in run.card.metrics
    assert "nan" not in run._repr_markdown_()
    capsys.readouterr()
    assert cli.main(["adapt", str(run.path / "config.yaml")]) == 0
    said = capsys.readouterr().out
    assert "mood, seed 1: accuracy undefined on 16 test rows" in said
    assert "1 of 2 seeds has no accuracy" in said
    assert cli.main(["report", str(run.path)]) == 0
    assert "has no accuracy" in (run.path / "report.html").read_text()
    capsys.readouterr()
    assert cli.main(["evaluate", str(run.path)]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out, parse_constant=pytest.fail)["accuracy"] is None
    assert "mpt: accuracy is undefined for the predictions on these rows" in said.err


def test_figures_are_read_as_they_were_written():
    figures = {"scores": (0.5, float("nan")), "parts": [[float("inf")]], "steps": 3, "name": "NaN"}
    found = with_nan(json_text(figures))
    np.testing.assert_equal(found, {"scores": [0.5, np.nan], "parts": [[np.nan]], "steps": 3, "name": "NaN"})
