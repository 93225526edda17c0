"""States below a late prompt, computed once and kept: the same training without running those layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import normal

import mpt.training.stage
from mpt.config.options import TrainConfig
from mpt.config.pretrain import PretrainConfig
from mpt.data.mixture import training_batches
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.rundir.directory import RunDir
from mpt.training.kept_states import KeptStates
from mpt.training.loop import train_stage
from mpt.training.stage import Stage
from mpt.types import Row

J, P, D = 2, 4, 32
# More than a batch of them, of several lengths.
ROWS = [[Row([3 + j, 7 + i % 2, *range(5, 6 + i % 4)], [20 + i % 2]) for i in range(20)] for j in range(J)]
TRAIN = TrainConfig(steps=8, batch_size=8, microbatches=2, save_every=4)


def stage(backbone, layer: int = 1, **keys) -> Stage:
    model = Prompted(backbone, SoftPrompt(jnp.asarray(0.1 * normal(0, J, P, D)), layer))
    return Stage("late", model, ROWS, TRAIN, **keys)


@pytest.mark.parametrize("model", ["tiny_model", "tiny_t5"])
def test_they_are_those_of_each_row(model, request):
    backbone = load_pretrained(str(request.getfixturevalue(model))).backbone
    kept = KeptStates(backbone, ROWS, 1, P)
    lower = jax.jit(lambda backbone, batch: backbone.lower(batch, 1, P))
    batch = training_batches(ROWS, TRAIN, 0, backbone.layout)[0]
    states = kept.attach(batch).states
    for i in range(TRAIN.microbatches):
        part = jax.tree.map(lambda array, i=i: jnp.asarray(array[i]), batch)
        np.testing.assert_allclose(states[i][part.text], lower(backbone, part)[part.text], atol=1e-5)


def test_training_with_them_is_training_without(tmp_path, pretrained, monkeypatch):
    trained, folders = [], (tmp_path / "kept", tmp_path / "not")
    for folder, most in zip(folders, (2**30, 0)):
        monkeypatch.setattr(mpt.training.stage, "MOST_KEPT", most)
        one = stage(pretrained.backbone)
        assert one.keeps_states == bool(most)
        trained.append(train_stage(one, RunDir.open(folder, PretrainConfig())).model.prompt.compose())
    np.testing.assert_allclose(trained[0], trained[1], atol=1e-5)


def test_the_layers_below_are_not_run(pretrained, monkeypatch):
    """They cost nothing in a step, and the step does not read the tokens."""
    kept = stage(pretrained.backbone)
    with_states = kept.flops
    monkeypatch.setattr(mpt.training.stage, "MOST_KEPT", 0)
    without = stage(pretrained.backbone)
    assert not without.keeps_states
    assert with_states < without.flops < stage(pretrained.backbone, 0).flops


def test_they_are_kept_only_where_that_is_right(pretrained):
    backbone = pretrained.backbone
    assert stage(backbone).keeps_states
    assert not stage(backbone, 0).keeps_states
    assert not stage(backbone, trainable=lambda path, value: True).keeps_states  # weights change below
    few = TrainConfig(steps=1, batch_size=8)
    one = stage(backbone)
    assert not Stage("late", one.model, ROWS, few).keeps_states  # most rows are never read
    for length in (P, P + 1):  # after longer teachers, the texts are elsewhere
        model = Distilled(backbone, one.model.prompt, jnp.zeros((J, length, D)))
        assert Stage("late", model, ROWS, TRAIN).keeps_states == (length == P)
