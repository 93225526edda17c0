"""Runs that are killed go on where they were, and end as if nothing had happened."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
from toys import PATIENCE, ROOT, finish, stage, start_mpt, steps_done, stop_at

from mpt import cli


def figures(run, stage: str) -> list[dict]:
    """The stage's lines, without the only figure that depends on the clock."""
    lines = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "rows_per_second"} for line in lines]


@pytest.fixture(scope="module")
def pretrain_file(tmp_path_factory, plain_pretrain):
    path = tmp_path_factory.mktemp("resume") / "pretrain.yaml"
    stages = {name: stage(16, save_every=3) for name in ("teachers", "universal")}
    path.write_text(json.dumps(plain_pretrain | stages))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, pretrain_file):
    """An uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert cli.main(["pretrain", str(pretrain_file), "--out", str(run)]) == 0
    return run


def test_killed_pretraining_ends_with_the_same_prompts(tmp_path, pretrain_file, whole):
    run = tmp_path / "run"
    command = ("pretrain", str(pretrain_file), "--out", str(run))
    status, _ = stop_at(start_mpt(*command), run, "universal", 5, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert cli.main([*command]) == 0
    for name in ("teachers", "universal"):
        file = f"prompts/{name}.safetensors"
        assert (run / file).read_bytes() == (whole / file).read_bytes()
        assert figures(run, name) == figures(whole, name)
        assert [line["step"] for line in figures(run, name)] == list(range(1, 17))


@pytest.mark.full
@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        (signal.SIGINT, 130, r"mpt: interrupted; the same command resumes from the last checkpoint"),
        (
            signal.SIGTERM,
            143,
            r"mpt: .*/run: teachers: stopped at step (\d+) of 16 as requested \(SIGTERM\); .*",
        ),
    ],
)
def test_pretraining_that_is_asked_to_stop_saves_and_says_how_to_go_on(
    tmp_path, pretrain_file, whole, how, code, text
):
    """Also in the middle of a save, which is finished first."""
    run = tmp_path / "run"
    command = ("pretrain", str(pretrain_file), "--out", str(run))
    status, error = stop_at(start_mpt(*command), run, "teachers", 6, how)
    assert status == code
    assert re.fullmatch(text, error.splitlines()[-1])
    assert "Traceback" not in error
    last = steps_done(run, "teachers")
    assert (run / "teachers" / "checkpoints" / str(last)).is_dir()
    finish(start_mpt(*command))
    for name in ("teachers", "universal"):
        assert figures(run, name) == figures(whole, name)


@pytest.mark.full
def test_soak():
    """The short form of benchmarks/soak.py."""
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--kills", "4", "--steps", "16"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=4 * PATIENCE, text=True)
    assert json.loads(output.stdout.splitlines()[-1])["kills"] == 4


@pytest.mark.full
def test_killed_comparison_ends_with_the_same_prompts(tmp_path, compare_file, compared):
    """It dies in one of its adaptations, after its pretraining and others."""
    killed, (whole, _) = tmp_path / "run", compared
    command = ("compare", str(compare_file), "--out", str(killed))
    place = "mood/prompt_tuning_from_instruction/adapt"
    status, _ = stop_at(start_mpt(*command), killed, place, 3, signal.SIGKILL)
    assert status == -signal.SIGKILL
    finish(start_mpt(*command))
    prompts = sorted(file.relative_to(whole) for file in whole.rglob("*.safetensors"))
    assert len(prompts) == 7
    for file in prompts:
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file


def test_finished_run_is_left_alone(whole, pretrain_file):
    before = {file: file.stat().st_mtime_ns for file in whole.rglob("*")}
    assert cli.main(["pretrain", str(pretrain_file), "--out", str(whole)]) == 0
    assert {file: file.stat().st_mtime_ns for file in whole.rglob("*")} == before


def test_an_adaptation_that_was_interrupted_behind_its_results_gets_its_report(tmp_path, adapted):
    run = tmp_path / "run"
    shutil.copytree(adapted, run)
    config = (run / "config.yaml").read_text().replace(str(adapted), str(run))
    (run / "config.yaml").write_text(config)
    (run / "report.html").unlink()
    assert cli.main(["adapt", str(run / "config.yaml")]) == 0
    assert (run / "report.html").is_file()
    assert (run / "results.json").read_bytes() == (adapted / "results.json").read_bytes()


def test_metrics_forget_what_came_after_the_checkpoint(tmp_path):
    from mpt.rundir.directory import Metrics

    metrics = Metrics(tmp_path / "stage")
    metrics.rewind(0)
    for step in range(1, 6):
        metrics.write(step, {"loss": 1.0 / step})
    with (tmp_path / "stage" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    again = Metrics(tmp_path / "stage")
    again.rewind(3)
    again.write(4, {"loss": 0.5})
    assert [line["step"] for line in again.read()] == [1, 2, 3, 4]


def test_a_late_prompt_that_is_killed_ends_as_if_it_were_not(tmp_path, config_file, plain_adapt):
    """The kept states of its rows are computed anew."""
    config = config_file(
        plain_adapt | {"vectors": {"length": 4, "layer": 1}, "train": stage(24, save_every=3)}
    )
    whole, killed = (("adapt", config, "--out", str(tmp_path / name)) for name in ("whole", "killed"))
    assert cli.main([*whole]) == 0
    status, _ = stop_at(start_mpt(*killed), tmp_path / "killed", "adapt", 5, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert cli.main([*killed]) == 0
    file = "prompts/adapted.safetensors"
    assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert figures(tmp_path / "killed", "adapt") == figures(tmp_path / "whole", "adapt")
