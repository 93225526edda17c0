"""A run that was stopped goes on where there are other devices, or other processes."""

from __future__ import annotations

import shutil
import signal

import pytest
from toys import as_undisturbed, finish, start_mpt, stop_at

from mpt import cli
from mpt.rundir.directory import Metrics

pytestmark = pytest.mark.full
ON_EIGHT = ("--mesh.fsdp", "2", "--mesh.tensor", "2")


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    """Processes that are started have eight devices, and compile as the tests do."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    monkeypatch.setenv("NPROC", "16")  # else few cores can keep eight devices waiting for too long


def test_a_run_of_eight_devices_goes_on_on_another_mesh_and_on_one_device(
    config_file, plain_pretrain, universal, tmp_path, capsys
):
    config = config_file(plain_pretrain)
    eight, one = tmp_path / "eight", tmp_path / "one"
    status, error = stop_at(
        start_mpt("pretrain", config, "--out", str(eight)), eight, "universal", 3, signal.SIGTERM
    )
    assert status == 143 and "of 12 as requested (SIGTERM)" in error
    shutil.copytree(eight, one)
    finish(start_mpt("pretrain", config, "--out", str(eight), *ON_EIGHT))
    as_undisturbed(eight, universal)
    text = (one / "config.yaml").read_text()
    (one / "config.yaml").write_text(text.replace(str(eight), str(one)))
    assert cli.main(["pretrain", config, "--out", str(one)]) == 0
    as_undisturbed(one, universal)
    told = "on a mesh of data 1 × fsdp 1 × tensor 1, where it was data 8 × fsdp 1 × tensor 1: "
    assert capsys.readouterr().err.count(told) == 1


def test_a_run_of_one_process_goes_on_in_two(config_file, plain_pretrain, universal, tmp_path, monkeypatch):
    config, run, write = config_file(plain_pretrain), tmp_path / "run", Metrics.write

    def crash(self, step, figures):
        if step == 6 and "universal" in str(self._folder):
            raise ZeroDivisionError
        write(self, step, figures)

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Metrics, "write", crash)
        cli.main(["pretrain", config, "--out", str(run)])
    sizes = ("--processes", "2", "--devices-per-process", "1")
    finish(start_mpt("launch", *sizes, "--", "pretrain", config, "--out", str(run)))
    as_undisturbed(run, universal)
