"""A config.json alone has the weights of the model that is loaded: their names, shapes and types."""

from __future__ import annotations

import json

import jax.numpy as jnp
import pytest
from flax import nnx
from golden import tiny

from mpt.loading.hf import load_pretrained
from mpt.loading.shapes import abstract_backbone
from mpt.models.backbone import Backbone

QUICK = ("gemma4", "qwen3_5", "t5gemma2")


@pytest.mark.parametrize(
    "family",
    [*QUICK, *(pytest.param(name, marks=pytest.mark.full) for name in tiny.CONFIGS if name not in QUICK)],
)
def test_a_plan_has_the_loaded_models_weights(family, tmp_path):
    """Their bytes too: matrices in 8 bits, and the rest in half precision."""
    alone = tmp_path / "alone"
    alone.mkdir()
    headed = {"tie_word_embeddings": False} if family in tiny.UNTIED else {}
    (alone / "config.json").write_text(json.dumps(tiny.CONFIGS[family] | headed))
    loaded = load_pretrained(str(tiny.save(family, tmp_path)), jnp.bfloat16, "int8").backbone
    planned = abstract_backbone(str(alone), jnp.bfloat16, "int8")
    assert planned.spec == loaded.spec
    assert described(planned) == described(loaded)


def described(backbone: Backbone) -> dict[tuple, tuple]:
    """The shape and the type of each weight."""
    return {path: (leaf.shape, leaf.dtype) for path, leaf in nnx.to_flat_state(nnx.state(backbone))}
