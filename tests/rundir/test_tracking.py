"""Trackers are told what the metrics file is told, and never stop a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toys import refused

from mpt import cli
from mpt.rundir import tracking
from mpt.rundir.tracking import Tracker, Trackers

CONFIG = {"out": "x", "train": {"steps": 3, "shares": [1.0, 2.0]}}


class Notebook(Tracker):
    """A tracker that writes everything down."""

    def __init__(self, run: Path, config, known: str):
        self.id = known or "first"
        self.notes = [("config", config["out"], known)]

    def log(self, stage, step, figures):
        self.notes.append((stage, step, dict(figures)))

    def conclude(self, figures):
        self.notes.append(("end", dict(figures)))

    def close(self, finished):
        self.notes.append(("close", finished))


@pytest.fixture
def notebooks(monkeypatch) -> list[Notebook]:
    """The trackers that are begun, in order, by the name of wandb."""
    begun: list[Notebook] = []

    def begin(run, config, known):
        begun.append(Notebook(run, config, known))
        return begun[-1]

    monkeypatch.setitem(tracking.TRACKERS, "wandb", begin)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    return begun


def test_every_stage_and_the_end_are_told(notebooks, config_file, plain_pretrain, tmp_path):
    stages = {name: {"steps": 2, "batch_size": 8} for name in ("teachers", "universal")}
    run = tmp_path / "run"
    config = config_file(plain_pretrain | stages | {"out": str(run), "track": ["wandb"]})
    assert cli.main(["pretrain", config]) == 0
    ((config, *lines, end, close),) = (notebook.notes for notebook in notebooks)
    assert config == ("config", str(run), "")
    assert [line[:2] for line in lines] == [(stage, step) for stage in stages for step in (1, 2)]
    told, of_tasks = set(lines[-1][2]), {"task tone", "task colour"}
    assert told - of_tasks == {"loss", "task", "kl", "hidden", "rows_per_second"}
    assert told & of_tasks
    assert end[0] == "end" and end[1]["training seconds"] > 0
    assert close == ("close", True)
    assert cli.main(["pretrain", str(run / "config.yaml")]) == 0  # finished: nothing is begun
    assert len(notebooks) == 1


def test_run_that_stops_goes_on_in_the_same_tracker_run(notebooks, tmp_path):
    before = Trackers(("wandb",), tmp_path, CONFIG)
    before.log("adapt", 1, {"loss": 1.0})
    before.stop()
    Trackers(("wandb",), tmp_path, CONFIG).log("adapt", 2, {"loss": 0.5})
    assert [notebook.id for notebook in notebooks] == ["first", "first"]
    assert notebooks[0].notes[-1] == ("close", False)
    assert notebooks[1].notes[0] == ("config", "x", "first")


def test_tracker_that_fails_is_given_up_once(notebooks, tmp_path, capsys, monkeypatch):
    def fail(self, stage, step, figures):
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(Notebook, "log", fail)
    trackers = Trackers(("wandb",), tmp_path, CONFIG)
    for step in range(3):
        trackers.log("adapt", step, {"loss": 1.0})
    trackers.conclude({"accuracy": 1.0})
    told = capsys.readouterr().err
    assert told == ("mpt: warning: track: wandb has failed, and the run continues without it: no route\n")


def test_tracker_that_is_not_installed_is_refused(monkeypatch, tmp_path, capsys, config_file, plain_pretrain):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    config = config_file(plain_pretrain | {"out": str(tmp_path / "run"), "track": ["mlflow"]})
    error = refused(capsys, "pretrain", config)
    remedy = "in mpt's source folder, `python -m pip install -e '.[mlflow]'`"
    assert error == f"mpt: track: mlflow is not installed: {remedy}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_mlflow_has_config_metrics_and_final_figures(tmp_path, monkeypatch, capsys):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    run = tmp_path / "run"
    trackers = Trackers(("mlflow",), run, CONFIG)
    trackers.log("adapt", 1, {"loss": 1.0, "validation of a (b)": 0.25})
    trackers.stop()
    again = Trackers(("mlflow",), run, CONFIG)
    again.log("adapt", 2, {"loss": 0.5})
    again.conclude({"test accuracy": 0.75})
    assert capsys.readouterr().err == ""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mpt")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params == {"out": "x", "train.steps": "3", "train.shares": "[1.0, 2.0]"}
    assert found.data.metrics == {"adapt/loss": 0.5, "adapt/validation of a _b_": 0.25, "test accuracy": 0.75}
    history = client.get_metric_history(found.info.run_id, "adapt/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    assert found.info.status == "FINISHED"


@pytest.mark.full
def test_wandb_stays_offline_without_a_key(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    run = tmp_path / "run"
    for step in (1, 2):
        trackers = Trackers(("wandb",), run, CONFIG)
        trackers.log("adapt", step, {"loss": 1.0 / step})
        trackers.conclude({"test accuracy": 0.75})
    assert "given up" not in capsys.readouterr().err
    folders = sorted((run / "wandb").glob("offline-run-*"))
    assert {folder.name.rpartition("-")[2] for folder in folders} == {
        json.loads((run / "tracking.json").read_text())["wandb"]
    }
    assert all([*folder.glob("*.wandb")] for folder in folders)
