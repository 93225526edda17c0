"""A universal prompt is taken a part of the way from its start to where training ends."""

import jax
import numpy as np
import pytest
from flax import nnx
from toys import stage

from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import from_plain
from mpt.prompts.saved import load_prompt
from mpt.recipes.pretrain import pretrain


@pytest.fixture
def made(tmp_path, plain_pretrain, pretrained):
    """The arrays of the universal prompt of a run that goes a part of the way."""

    def run(part: float) -> list[np.ndarray]:
        stages = {"teachers": stage(0), "universal": stage(2) | {"interpolation": part}}
        out = {"out": str(tmp_path / f"run-{part}")}
        folder = pretrain(from_plain(PretrainConfig, plain_pretrain | stages | out, "test"), pretrained)
        prompt, _ = load_prompt(folder, "universal")
        return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(prompt))]

    return run


def test_half_of_the_way_is_the_mean_of_start_and_end(made):
    start, half, end = made(0.0), made(0.5), made(1.0)
    for first, between, last in zip(start, half, end):
        np.testing.assert_allclose(between, (first + last) / 2, rtol=1e-5, atol=1e-7)
    assert any(np.abs(last - first).max() > 1e-3 for first, last in zip(start, end))
