"""Teachers' outputs are computed once per row, and are those of the teachers."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import mpt.training.teacher_cache
from mpt.config.options import TrainConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import from_plain
from mpt.data.mixture import training_batches
from mpt.prompts import MultitaskPrompt
from mpt.prompts.prompted import Distilled
from mpt.recipes.pretrain import pretrain
from mpt.training.teacher_cache import TeacherCache
from mpt.types import Row

J, P, D = 2, 4, 32
ROWS = [[Row([3 + i, 7, 8][: 1 + i % 3], [20, 21][: 1 + i % 2]) for i in range(9)] for _ in range(J)]


@pytest.fixture
def teachers():
    return 0.1 * jax.random.normal(jax.random.key(0), (J, P, D))


@pytest.fixture
def batches():
    return list(training_batches(ROWS, TrainConfig(steps=8, batch_size=6, microbatches=2), 0))


def test_outputs_are_the_teachers(pretrained, teachers, batches, tmp_path):
    cache = TeacherCache(tmp_path, pretrained.backbone, teachers, ROWS)
    start = MultitaskPrompt.start(teachers[0], J, 1, jax.random.key(0))
    teach = jax.jit(Distilled(pretrained.backbone, start, teachers).teach)
    for batch in batches:
        taught = cache.attach(batch).taught
        for index in range(2):
            microbatch, cached = (
                jax.tree.map(lambda array, i=index: array[i], tree) for tree in (batch, taught)
            )
            expected = teach(jax.tree.map(jax.numpy.asarray, microbatch))
            for ours, theirs, mask in (
                (cached.logits, expected.logits, microbatch.labelled),
                (cached.hidden[0], expected.hidden[0], microbatch.text),
            ):
                mask = np.asarray(mask)
                np.testing.assert_allclose(ours[mask], np.asarray(theirs)[mask], atol=2e-5)


def test_each_row_is_computed_once_and_kept(pretrained, teachers, batches, tmp_path, monkeypatch):
    cache = TeacherCache(tmp_path, pretrained.backbone, teachers, ROWS)
    first = [cache.attach(batch) for batch in batches]
    assert set(np.concatenate([batch.numbers.ravel() for batch in batches])) == set(range(2 * 9))
    monkeypatch.setattr(mpt.training.teacher_cache, "_teach", lambda *_: pytest.fail)
    again = TeacherCache(tmp_path, pretrained.backbone, teachers, ROWS)
    for before, batch in zip(first, batches):
        jax.tree.map(np.testing.assert_array_equal, before.taught, again.attach(batch).taught)


@pytest.mark.full
def test_pretraining_with_them_is_the_same(tmp_path, plain_pretrain):
    """To rounding: a step without them compiles teachers and student together."""
    prompts = []
    for cached in (False, True):
        stage = plain_pretrain["universal"] | {"cache_teachers": cached}
        keys = plain_pretrain | {"out": str(tmp_path / str(cached)), "universal": stage}
        run = pretrain(from_plain(PretrainConfig, keys, "test"))
        prompts.append(load_file(run / "prompts" / "universal.safetensors"))
    assert (run / "universal" / "taught" / "logits.npy").is_file()
    for name, values in prompts[0].items():
        np.testing.assert_allclose(values, prompts[1][name], atol=1e-3)
