"""The matrices within a backbone's layers."""

from __future__ import annotations

from collections.abc import Mapping

from flax import nnx

from mpt.models.backbone import Backbone

# Name -> number of input axes.
ATTENTION = {"q": 1, "k": 1, "v": 1, "out": 2}
CROSS = {f"cross_{name}": inputs for name, inputs in ATTENTION.items()}
FEED_FORWARD = {"up": 1, "gate": 1, "down": 1}
ALL = ATTENTION | FEED_FORWARD | CROSS


def stacks(backbone: Backbone) -> dict[str, nnx.Dict]:
    """The stacked layers of a backbone by name: those of a decoder, or of an encoder and a decoder."""
    names = ("layers",) if backbone.layout == "decoder" else ("encoder", "decoder")
    return {name: getattr(backbone, name) for name in names}


def matrices(stack: nnx.Dict, among: Mapping[str, int] = ALL) -> dict[str, int]:
    """The matrices of a stack that are among ``among``, with their numbers of input axes."""
    return {name: inputs for name, inputs in among.items() if name in stack}
