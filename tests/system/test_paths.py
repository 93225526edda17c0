"""Runs whose directory is in a bucket, which a small server in this process keeps as Google's would."""

import json
import socketserver
import sys

import jax
import pytest
from etils import epath
from toys import refused, stage

from mpt import cli
from mpt.config.pretrain import PretrainConfig
from mpt.data.files import read_file
from mpt.errors import UserError
from mpt.rundir.checkpoint import Checkpoints, Resumed
from mpt.rundir.directory import Metrics, RunDir, atomic_folder
from mpt.system.launch import free_port
from mpt.system.paths import run_path, upload

RUN = "gs://bucket/run"


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket, gs://bucket, for all that reads and writes in this process."""
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    address = f"http://localhost:{port}"
    with pytest.MonkeyPatch.context() as patch:
        # Of gcsfs and Google's client; and of TensorStore.
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        patch.setenv("NO_GCE_CHECK", "true")  # looking for a login takes seconds
        # A client that hangs up early would be told of on standard error, among what mpt says.
        patch.setattr(socketserver.BaseServer, "handle_error", lambda *_: None)
        yield
    server.stop()


def names(folder: str) -> set[str]:
    return {path.name for path in epath.Path(folder).iterdir()}


@pytest.mark.parametrize("name", ["s3://bucket/run", "https://host/run"])
def test_a_run_lies_in_a_folder_or_a_bucket(name):
    with pytest.raises(UserError, match=f"^{name}: a run must be in a folder or at gs://$"):
        run_path(name)


def test_without_its_client_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    remedy = r"in mpt's source folder, `python -m pip install -e '\.\[gcs\]'`"
    with pytest.raises(UserError, match=rf"^{RUN}: gs:// needs the package gcsfs: {remedy}$"):
        run_path(RUN)


@pytest.mark.full
def test_a_bucket_that_is_not_there_is_one_line(bucket, capsys, config_file, plain_pretrain):
    error = refused(capsys, "pretrain", config_file(plain_pretrain), "--out", "gs://no-such-bucket/run")
    assert "gs://no-such-bucket/run/config.yaml: cannot be written (" in error


@pytest.mark.full
def test_a_damaged_checkpoint_in_a_bucket_gives_way_to_the_one_before(bucket, capsys):
    folder = epath.Path("gs://bucket/damaged")
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(Resumed(step, {"vectors": jax.numpy.ones(64) * step}, {}, 0.0))
    checkpoints.close()
    (folder / "2" / "position" / "metadata").write_text("{")
    found = Checkpoints(folder).restore({"vectors": jax.numpy.zeros(64)})
    assert found and found.step == 1
    assert "gs://bucket/damaged/2: this checkpoint is damaged" in capsys.readouterr().err
    assert names(str(folder)) == {"1"}


@pytest.mark.full
def test_what_another_process_writes_into_a_bucket_is_seen(bucket):
    from google.cloud import storage

    run = RunDir.open("gs://bucket/other", PretrainConfig())
    assert not (run.path / "prompts" / "a.json").exists()
    storage.Client().bucket("bucket").blob("other/prompts/a.json").upload_from_string("{}")
    assert (run.path / "prompts" / "a.json").is_file()


@pytest.mark.full
def test_rows_in_a_bucket_are_read(bucket):
    upload(run_path("gs://bucket/rows.jsonl"), b'{"text": "one"}\n{"text": "two"}\n')
    assert [row.columns["text"] for row in read_file("gs://bucket/rows.jsonl")] == ["one", "two"]


@pytest.mark.full
def test_a_folder_of_files_goes_into_a_bucket_or_leaves_nothing(bucket):
    out = run_path("gs://bucket/whole")
    with pytest.raises(ZeroDivisionError), atomic_folder(out) as folder:
        (folder / "a").write_text("1")
        raise ZeroDivisionError
    assert not out.exists()
    with atomic_folder(out) as folder:
        (folder / "b").mkdir()
        (folder / "b" / "c").write_text("2")
    assert (out / "b" / "c").read_text() == "2"
    with pytest.raises(UserError, match="gs://bucket/whole exists already"), atomic_folder(out):
        pass


@pytest.mark.full
def test_a_run_in_a_bucket_goes_on_and_ends_as_one_in_a_folder(
    bucket, capsys, config_file, plain_pretrain, universal, toy, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    stages = {name: stage(12, save_every=5) for name in ("teachers", "universal")}
    command = ["pretrain", config_file(plain_pretrain | stages), "--out", RUN]
    write = Metrics.write

    def crash(self, step, figures):
        if step == 8 and "universal" in str(self._folder):
            raise ZeroDivisionError
        write(self, step, figures)

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Metrics, "write", crash)
        cli.main(command)
    assert names(f"{RUN}/universal/checkpoints") == {"5"}
    assert cli.main(command) == 0
    for name in ("teachers", "universal"):
        file = f"prompts/{name}.safetensors"
        assert (epath.Path(RUN) / file).read_bytes() == (universal / file).read_bytes()
        lines = (epath.Path(RUN) / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))
    assert any("tfevents" in name for name in names(f"{RUN}/universal"))
    capsys.readouterr()
    assert cli.main(["evaluate", RUN, "--task", toy["tone"], "--rows", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    assert "vectors.length is 4 there, 5 here" in refused(capsys, *command, "--vectors.length", "5")
    assert {path.name for path in tmp_path.iterdir()} == {"run.yaml"}
