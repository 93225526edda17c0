"""A failed command does not block its correction: a folder in which nothing was trained gives way."""

from __future__ import annotations

import json

import pytest
from toys import refused, stage, tree, write_task

from mpt import cli
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import load_config
from mpt.errors import UserError
from mpt.rundir.directory import RunDir

ONE, OTHER = PretrainConfig(seed=1), PretrainConfig(seed=2)


@pytest.fixture
def begun(tmp_path):
    """A run that has written its config, and no more."""
    return RunDir.open(tmp_path / "run", ONE).path


def taken_over(path) -> bool:
    try:
        RunDir.open(path, OTHER)
    except UserError as error:
        assert "holds a run of another config (seed is 1 there, 2 here)" in str(error)
        return False
    assert load_config(PretrainConfig, path / "config.yaml") == OTHER
    return True


def test_looking_writes_nothing(tmp_path):
    run = RunDir.look(tmp_path / "run", ONE)
    assert not run.path.exists()
    run.begin()
    assert load_config(PretrainConfig, run.path / "config.yaml") == ONE
    before = tree(run.path)
    RunDir.look(run.path, OTHER)
    assert tree(run.path) == before


@pytest.mark.parametrize(
    "file",
    [
        "draws.json",
        "adapt/cost.json",
        "adapt/metrics.jsonl",
        "adapt/events.out.tfevents.1.host",
        "pretrain/config.yaml",
        ".config.yaml.77",
    ],
)
def test_a_run_that_has_trained_no_step_gives_way(begun, file):
    (begun / file).parent.mkdir(exist_ok=True)
    (begun / file).write_text("")
    assert taken_over(begun)
    assert [*tree(begun)] == ["config.yaml"]


@pytest.mark.parametrize("content", ["task: movies\n", "steps: [\n"])
def test_a_config_of_another_command_gives_way_too(begun, content):
    (begun / "config.yaml").write_text(content)
    assert taken_over(begun)
    (begun / "config.yaml").write_text(content)
    (begun / "results.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.yaml"):
        RunDir.open(begun, OTHER)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("adapt/metrics.jsonl", '{"step": 1}\n'),
        ("adapt/checkpoints/2/arrays", "x"),
        ("prompts/universal.safetensors", "x"),
        ("results.json", "[]"),
        ("chapter.tex", "precious"),
        ("notes/config.yaml.txt", "precious"),
    ],
)
def test_a_run_that_has_trained_or_holds_anything_else_stays(begun, file, content):
    (begun / file).parent.mkdir(parents=True, exist_ok=True)
    (begun / file).write_text(content)
    before = tree(begun)
    assert not taken_over(begun)
    assert tree(begun) == before


def test_tasks_that_python_has_written_are_kept(begun):
    (begun / "tasks").mkdir()
    (begun / "tasks" / "mine.yaml").write_text("source: mine.jsonl\n")
    assert taken_over(begun)
    assert [*tree(begun)] == ["config.yaml", "tasks/mine.yaml"]


def test_the_corrected_command_runs_in_the_folder_of_a_failed_one(
    capsys, config_file, plain_adapt, universal, tmp_path
):
    """A mistyped prompt; then, from a method that fails as it starts, what it had written."""
    out = tmp_path / "run"
    config = config_file(plain_adapt | {"out": str(out), "train": {"steps": 1, "batch_size": 8}})
    refused(capsys, "adapt", config, "--prompt", str(universal / "teachers"))
    assert not out.exists()
    error = refused(capsys, "adapt", config, "--method", "spot")
    assert "needs source prompts" in error
    assert cli.main(["adapt", config]) == 0
    assert json.loads((out / "results.json").read_text())[0]["steps"] == 1


def test_a_task_that_has_changed_is_no_longer_the_runs(config_file, plain_adapt, tmp_path, capsys):
    """Neither a finished run nor one to resume is taken for one of other rows or another wording."""
    file = write_task(tmp_path, "mood")
    config = plain_adapt | {"task": str(file), "out": str(tmp_path / "run"), "train": stage(2)}
    command = ["adapt", config_file(config)]
    assert cli.main(command) == 0
    assert cli.main(command) == 0

    data = tmp_path / "mood.jsonl"
    rows = data.read_text()
    data.write_text(rows + rows.splitlines()[0].replace("so", "we") + "\n")
    assert cli.main(command) == 2
    assert f"{tmp_path / 'run'} holds a run of other data (the rows of task mood" in capsys.readouterr().err
    data.write_text(rows)
    assert cli.main(command) == 0

    file.write_text(json.dumps(json.loads(file.read_text()) | {"instruction": "Which?\n"}))
    assert cli.main(command) == 2
    assert "(the wording of task mood changed since)" in capsys.readouterr().err
    data.unlink()
    write_task(tmp_path, "mood")
    data.unlink()
    assert cli.main(command) == 0  # a finished run is read back without its rows
