"""Runs that are killed go on where they were, and end as if nothing had happened."""

import contextlib
import json
import signal
import time

import pytest
from toys import ROOT, stage, start_mpt

PATIENCE = 180  # seconds until a process that does not get on is a failure


def steps_done(run, stage: str) -> int:
    """The last step that a stage has written down."""
    with contextlib.suppress(FileNotFoundError, IndexError):
        return json.loads((run / stage / "metrics.jsonl").read_text().split("\n")[-2])["step"]
    return 0


def stop_at(process, run, stage: str, step: int, how: signal.Signals) -> tuple[int, str]:
    """Sends a signal once ``stage`` has reached ``step``; returns the exit status and standard error."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and steps_done(run, stage) < step and time.monotonic() < end:
        time.sleep(0.002)
    assert process.poll() is None, f"ended before step {step} of {stage}: {process.communicate()}"
    process.send_signal(how)
    _, error = process.communicate(timeout=PATIENCE)
    return process.returncode, error


def finish(process) -> str:
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    return error


def figures(run, stage: str) -> list[dict]:
    """The stage's lines, without the only figure that depends on the clock."""
    lines = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "rows_per_second"} for line in lines]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Keeps what is compiled between processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="module")
def pretrain_file(tmp_path_factory, plain_pretrain):
    path = tmp_path_factory.mktemp("resume") / "pretrain.yaml"
    stages = {name: stage(30, save_every=3) for name in ("teachers", "universal")}
    path.write_text(json.dumps(plain_pretrain | stages))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compiled, pretrain_file):
    """An uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(start_mpt("pretrain", str(pretrain_file), "--out", str(run)))
    return run


@pytest.mark.slow
def test_killed_pretraining_ends_with_the_same_prompts(tmp_path, pretrain_file, whole):
    run = tmp_path / "run"
    command = ("pretrain", str(pretrain_file), "--out", str(run))
    for place, step in (("teachers", 8), ("teachers", 17), ("universal", 10)):
        status, _ = stop_at(start_mpt(*command), run, place, step, signal.SIGKILL)
        assert status == -signal.SIGKILL
    finish(start_mpt(*command))
    for name in ("teachers", "universal"):
        file = f"prompts/{name}.safetensors"
        assert (run / file).read_bytes() == (whole / file).read_bytes()
        assert figures(run, name) == figures(whole, name)
        assert [line["step"] for line in figures(run, name)] == list(range(1, 31))


@pytest.mark.slow
def test_interrupted_pretraining_says_how_to_go_on(tmp_path, pretrain_file, whole):
    run = tmp_path / "run"
    command = ("pretrain", str(pretrain_file), "--out", str(run))
    status, error = stop_at(start_mpt(*command), run, "teachers", 5, signal.SIGINT)
    assert status == 130
    assert error.splitlines()[-1] == "mpt: interrupted; the same command goes on from the last checkpoint"
    assert "Traceback" not in error
    finish(start_mpt(*command))
    assert (run / "prompts/universal.safetensors").read_bytes() == (
        whole / "prompts/universal.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_killed_comparison_ends_with_the_same_prompts(tmp_path, compiled, plain_pretrain, plain_adapt, toy):
    adapt = {name: value for name, value in plain_adapt.items() if name not in ("model", "task")}
    adapt["train"] = adapt["train"] | {"steps": 20}
    path = tmp_path / "compare.yaml"
    path.write_text(json.dumps({"pretrain": plain_pretrain, "targets": [toy["mood"]], "adapt": adapt}))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    finish(start_mpt("compare", str(path), "--out", str(whole)))
    command = ("compare", str(path), "--out", str(killed))
    for place, step in (
        ("pretrain/universal", 5),
        ("mood/prompt_tuning_from_the_instruction/adapt", 7),
    ):
        assert stop_at(start_mpt(*command), killed, place, step, signal.SIGKILL)[0] == -signal.SIGKILL
    finish(start_mpt(*command))
    prompts = sorted(file.relative_to(whole) for file in whole.rglob("*.safetensors"))
    assert len(prompts) == 7
    for file in prompts:
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.slow
def test_finished_run_is_left_alone(whole, pretrain_file):
    before = {file: file.stat().st_mtime_ns for file in whole.rglob("*")}
    finish(start_mpt("pretrain", str(pretrain_file), "--out", str(whole), cwd=ROOT))
    assert {file: file.stat().st_mtime_ns for file in whole.rglob("*")} == before


def test_metrics_forget_what_came_after_the_checkpoint(tmp_path):
    from mpt.rundir import Metrics

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
