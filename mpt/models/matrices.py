"""The matrices within a backbone's layers."""

from __future__ import annotations

from collections.abc import Mapping

from flax import nnx

from mpt.models.backbone import Backbone
from mpt.models.decoder import Decoder

# Name -> number of input axes.
_PROJECTIONS = {"q": 1, "k": 1, "v": 1, "out": 2}
ATTENTION = {**_PROJECTIONS, "out_gate": 1}
CROSS = {f"cross_{name}": inputs for name, inputs in _PROJECTIONS.items()}
FEED_FORWARD = {"up": 1, "gate": 1, "down": 1}
PER_LAYER = {"per_layer_gate": 1, "per_layer_out": 1}
ALL = ATTENTION | FEED_FORWARD | CROSS | PER_LAYER


def stacks(backbone: Backbone) -> dict[str, nnx.Dict]:
    """The stacks of layers of a backbone by name: a decoder's, by kind, or those of encoder and decoder."""
    names = backbone.spec.stacks if isinstance(backbone, Decoder) else ("encoder", "decoder")
    return {name: getattr(backbone, name) for name in names}


def matrices(stack: nnx.Dict, among: Mapping[str, int] = ALL) -> dict[str, int]:
    """The matrices of a stack that are among ``among``, with their numbers of input axes."""
    return {name: inputs for name, inputs in among.items() if name in stack}
