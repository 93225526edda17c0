"""Several processes train what one trains; and when one dies, all end and say so."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from toys import PATIENCE, as_undisturbed, finish, refused, stage, start_mpt

pytestmark = pytest.mark.full


@pytest.fixture(autouse=True)
def quick_to_compile(monkeypatch):
    """The processes that are launched compile as the tests do."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.mark.parametrize(("processes", "devices", "mesh"), [(2, 2, {"tensor": 2}), (4, 1, {"fsdp": 2})])
def test_several_processes_train_the_same_prompts(
    processes, devices, mesh, config_file, plain_pretrain, universal, tmp_path
):
    config = config_file(plain_pretrain | {"mesh": mesh})
    sizes = ("--processes", str(processes), "--devices-per-process", str(devices))
    run = tmp_path / "run"
    output = finish(start_mpt("launch", *sizes, "--", "pretrain", config, "--out", str(run)))
    as_undisturbed(run, universal)
    assert output.count("Universal prompt in") == 1


def test_several_processes_learn_a_sequence_as_one_does(config_file, tiny_model, toy, tmp_path):
    """Each reads its own share of a batch's rows, so every lesson is that of one process."""
    plain = {
        "model": {"name": str(tiny_model)},
        "tasks": [toy["tone"], toy["mood"]],
        "methods": ["progressive", "naive"],
        "vectors": {"length": 4},
        "train": stage(3),
        "shots": 4,
        "max_length": 24,
        "test_rows": 8,
    }
    config, runs = config_file(plain), [tmp_path / "one", tmp_path / "two"]
    finish(start_mpt("continual", config, "--out", str(runs[0])))
    finish(start_mpt("launch", "--processes", "2", "--", "continual", config, "--out", str(runs[1])))
    for file in sorted((runs[0] / "naive" / "prompts").glob("*.safetensors")):
        alone, shared = (load_file(run / "naive" / "prompts" / file.name)["vectors"] for run in runs)
        np.testing.assert_allclose(alone, shared, rtol=1e-4, atol=1e-5)
    steps = [[json.loads(line) for line in (run / "naive/1-mood/metrics.jsonl").open()] for run in runs]
    assert [line["loss"] for line in steps[0]] == pytest.approx([line["loss"] for line in steps[1]], rel=1e-4)


def test_one_process_that_dies_ends_all(config_file, plain_pretrain, tmp_path):
    config = config_file(plain_pretrain | {"teachers": stage(100_000, save_every=100)})
    run = tmp_path / "run"
    job = start_mpt("launch", "--processes", "2", "--", "pretrain", config, "--out", str(run))
    metrics, end = run / "teachers" / "metrics.jsonl", time.monotonic() + PATIENCE
    while not (metrics.is_file() and metrics.read_text()) and job.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    children = [int(pid) for pid in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]
    victim = next(pid for pid in children if b"MPT_PROCESS=1" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(victim, signal.SIGKILL)
    _, error = job.communicate(timeout=60)
    assert job.returncode == 2
    assert error.startswith("mpt: process 1 of 2 was killed by signal 9, the others were stopped")
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_mistake_is_told_once_and_by_its_process(capsys, config_file, plain_pretrain, tmp_path):
    config = config_file(plain_pretrain | {"mesh": {"data": 3}, "out": str(tmp_path / "run")})
    error = refused(capsys, "launch", "--processes", "2", "--", "pretrain", config)
    assert "of 2 ended with status 2, the others were stopped: mpt: mesh data 3" in error
    assert "needs 3 devices, there are 2" in error
    assert not (tmp_path / "run").exists()
