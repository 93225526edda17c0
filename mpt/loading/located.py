"""From a model's name to its files: packaged, in a folder here, or on the hub."""

from __future__ import annotations

from pathlib import Path

from mpt.errors import UserError, nearest
from mpt.loading import packaged
from mpt.loading.packaged import PACKAGED, packaged_file
from mpt.system.network import hub, is_online


def check_model(name: str) -> None:
    """Refuses what can be no model: neither packaged, nor a path that is there, nor a name as the hub has.

    Raises:
        UserError: it is none of them.
    """
    if name in PACKAGED or Path(name).exists():
        return
    if name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") != 1:
        hint = nearest(name, PACKAGED, f"packaged models: {', '.join(PACKAGED)}")
        raise UserError(f"model '{name}': no such file or folder; {hint}; a hub model is written owner/name")


def check_reachable(name: str) -> None:
    """Refuses, before anything slow begins, a model that has to be fetched, where there is no network."""
    if name in PACKAGED:
        packaged.check_reachable(name)
    elif not Path(name).exists() and not is_online(hub()):
        locate(name)


def locate(name: str) -> Path:
    """The folder or file of a model, which is downloaded if necessary.

    Raises:
        UserError: there is no model of that name, or it cannot be downloaded.
    """
    check_model(name)
    if name in PACKAGED:
        return packaged_file(name)
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import snapshot_download

    # Some repositories hold the weights once more, under other names or in a folder.
    wanted, twice = ["*.json", "*.safetensors", "*.model", "*.txt"], ["*/*", "consolidated*"]
    here_alone = not is_online(hub())
    try:
        return Path(
            snapshot_download(name, allow_patterns=wanted, ignore_patterns=twice, local_files_only=here_alone)
        )
    except Exception as error:  # the hub's client raises many types; all mean that the download failed
        reason = str(error).strip().splitlines()[0]
        if here_alone:
            reason = f"there is no network; name a folder with its files, or take {min(PACKAGED)}"
        raise UserError(
            f"model '{name}': not a folder here, and the hub did not return it: {reason}"
        ) from None
