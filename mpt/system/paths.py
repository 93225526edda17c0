"""Paths of runs: local folders, or locations in a bucket of Google Cloud Storage; and models of the hub.

A bucket has no folders, and its objects can be neither renamed nor appended to; an object becomes visible
once it is complete. A run that is a model of the Hugging Face hub is fetched, and only read.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import fsspec.config
from etils import epath

from mpt.errors import UserError, first_line, install, one_line
from mpt.system.network import hub, is_online

AnyPath = Path | epath.Path
HUB = "hf://"
PACKAGED = "packaged"  # the name of the bank that comes with mpt
CLIENTS = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs"}  # of stores; the extras are named without the fs
READ = ["config.yaml", "prompts/*", "result.json", "results.json", "tasks/*"]  # what it takes to use a run

# Without a cache, so that a process sees what another has just written.
fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
# Otherwise gcsfs looks up the type of a bucket at every access, and warns if the account may not.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


def is_remote(path: str | AnyPath) -> bool:
    """Whether ``path`` is a URL such as gs://bucket/file."""
    return "://" in str(path)


def lacking(url: str | AnyPath) -> str:
    """Which package a URL needs that is not installed, and the command that brings it; else nothing."""
    scheme, _, inner = str(url).partition("://")
    client = CLIENTS.get(scheme, "") if inner else ""
    if not client or find_spec(client):
        return ""
    return f"{scheme}:// needs the package {client}: {install(client.removesuffix('fs'))}"


def check_store(url: str | AnyPath) -> None:
    """Refuses a URL of a store whose client is not installed, which is not imported for that."""
    if why := lacking(url):
        raise UserError(f"{url}: {why}")


def bank_path(bank: str) -> str:
    """Where a bank of prompts lies, by its path or URL; the one named `packaged` comes with mpt.

    >>> bank_path("runs/bank")
    'runs/bank'
    """
    if bank.rstrip("/") != PACKAGED:
        return bank
    return str(Path(__file__).parents[1] / "prompts" / PACKAGED)


def run_path(name: str | AnyPath) -> AnyPath:
    """The path of the run directory ``name``.

    Raises:
        UserError: it is a URL of a store that is not supported, or that cannot be reached.

    >>> run_path("runs/glue").is_absolute(), str(run_path("runs/glue"))
    (False, 'runs/glue')
    """
    if not is_remote(name):
        return Path(name)
    if str(name).startswith(HUB):
        raise UserError(f"{name}: a run on the hub is read-only; give a folder, and upload it: hf upload")
    if not str(name).startswith("gs://"):
        raise UserError(f"{name}: a run must be in a folder or at gs://")
    check_store(name)
    path = epath.Path(name)
    try:
        path.exists()
    except Exception as error:  # the store's client raises its own types
        raise UserError(f"{name}: cannot be read ({first_line(error)})") from None
    return path


def finished_run(name: str | AnyPath) -> AnyPath:
    """The path of a run that is only read: as ``run_path``, or hf://owner/name, which is fetched once.

    Raises:
        UserError: the hub does not give it, or ``run_path`` raises an error.
    """
    if not str(name).startswith(HUB):
        return run_path(name)
    from huggingface_hub import snapshot_download  # not at the top, so that `mpt --help` answers at once

    here_alone = not is_online(hub())
    model, _, revision = str(name).removeprefix(HUB).rstrip("/").partition("@")
    try:
        return Path(
            snapshot_download(
                model, revision=revision or None, allow_patterns=READ, local_files_only=here_alone
            )
        )
    except Exception as error:  # the hub's client raises many types; all mean that the download failed
        reason = "there is no network, and it has not been downloaded" if here_alone else one_line(error)
        raise UserError(f"{name}: the hub did not return it: {reason}") from None


def run_title(run: AnyPath) -> str:
    """A run's name: the last two folders of its path.

    >>> run_title(Path("runs/glue"))
    'runs/glue'
    """
    return "/".join((run if is_remote(run) else run.absolute()).parts[-2:])


def missing(path: AnyPath, what: str, otherwise: str = "") -> str:
    """That a file or folder is not there, and which one beside it may be meant.

    Args:
        what: what it is: "file" or "folder".
        otherwise: the hint where none is like it.

    >>> missing(Path("setpu.py"), "file"), missing(Path("gone/for/ever"), "folder")
    ('setpu.py: no such file; did you mean setup.py?', 'gone/for/ever: no such folder')
    """
    beside = [] if is_remote(path) or not path.parent.is_dir() else path.parent.iterdir()
    names = [each.name for each in beside if (each.is_dir() if what == "folder" else each.is_file())]
    close = get_close_matches(path.name, names, n=1, cutoff=0.75)
    hint = f"did you mean {path.parent / close[0]}?" if close else otherwise
    return f"{path}: no such {what}" + (f"; {hint}" if hint else "")


def upload(path: AnyPath, content: bytes) -> None:
    """Writes a file into a bucket.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_bytes(content)
    except Exception as error:  # the store's client raises its own types
        raise UserError(
            f"{path}: cannot be written ({first_line(error)}); look at the bucket's name and its permissions"
        ) from None


def replace_atomic(path: AnyPath, content: str | bytes) -> None:
    """Replaces a file atomically: whatever happens, it has either its old content or all of the new one."""
    data = content.encode() if isinstance(content, str) else content
    if is_remote(path):
        return upload(path, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(data)
    os.replace(scratch, path)
