"""Scores of class words read as a tree, against each word read by itself after its text."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import normal, tiny

from mpt.data.batches import Sizes
from mpt.loading.hf import load_pretrained
from mpt.methods.dept import DecomposedPrompt
from mpt.methods.prefix import PrefixPrompt
from mpt.models import class_scores
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

P, J = 3, 2
WORDS = ([20], [21, 22, 23, 24], [21, 22, 25], [21, 22], [26, 27])
# Texts and words beyond the windows of the families that have them; free text among them.
ROWS = [
    Row([5, 6, 7, 8, 9, 10, 11], [20], WORDS, 0),
    Row([10, 11], [12, 13, 14]),
    Row([3, 4, 5, 6], [21], ([21], [22]), 0),
    Row([9, 8, 7], [26, 27], WORDS, 4, scoring="mean"),
]
TASKS = [1, 0, 1, 0]

outputs = nnx.jit(lambda model, batch: model(batch))


def scored(model: Prompted, rows=ROWS, tasks=TASKS):
    layout = model.backbone.layout
    return outputs(model, tiny.collate(rows, tasks, layout, Sizes.of(rows, layout, classes=True)))


def naive(model: Prompted, rows=ROWS, tasks=TASKS) -> list[np.ndarray]:
    """The scores of each row's words, each a target of its own."""
    each = [row._replace(targets=word) for row in rows for word in row.choices]
    index = [task for row, task in zip(rows, tasks) for _ in row.choices]
    batch = tiny.collate(each, index, model.backbone.layout)
    log_p = jax.nn.log_softmax(outputs(model, batch).logits)
    taken = jnp.take_along_axis(log_p, batch.targets[..., None], axis=-1)[..., 0]
    found = [float(taken[i, : len(row.targets)].sum()) for i, row in enumerate(each)]
    scaled = [x / len(row.targets) if row.scoring == "mean" else x for x, row in zip(found, each)]
    ends = np.cumsum([len(row.choices) for row in rows])
    return np.split(np.array(scaled), ends[:-1])


def hold(model: Prompted, rows=ROWS, tasks=TASKS) -> None:
    found = np.asarray(scored(model, rows, tasks).classes)
    for ours, theirs in zip(found, naive(model, rows, tasks)):
        np.testing.assert_allclose(ours[: len(theirs)], theirs, rtol=1e-5, atol=1e-5)
        assert np.isneginf(ours[len(theirs) :]).all()


def prompt(backbone, count: int = J) -> SoftPrompt:
    return SoftPrompt(jnp.asarray(normal(0, count, P, backbone.embedding.shape[1], scale=0.3)))


@pytest.fixture(
    scope="module",
    params=["mistral", "gemma2", "qwen3_5_text", "gpt2", "t5-1.1", "umt5", "t5gemma", "t5gemma2"],
)
def family(request, tmp_path_factory):
    """Windows, also with capped scores; the delta rule; learned positions, and relative ones."""
    return load_pretrained(str(tiny.save(request.param, tmp_path_factory.mktemp("model")))).backbone


def test_scores_are_those_of_each_word_after_its_text(family):
    hold(Prompted(family, prompt(family)))


def test_one_prompt_serves_all_rows(pretrained):
    hold(Prompted(pretrained.backbone, prompt(pretrained.backbone, 1)), tasks=[0] * len(ROWS))


@pytest.mark.parametrize("kind", ["tiny_model", "tiny_t5"])
def test_nodes_see_keys_and_values_in_front_of_the_prompt(kind, request):
    backbone = load_pretrained(str(request.getfixturevalue(kind))).backbone
    layers, heads, width = backbone.kv_shape
    kv = (jnp.asarray(normal(seed, J, layers, P, heads, width)) for seed in (0, 1))
    hold(Prompted(backbone, PrefixPrompt(*kv)))


def test_moved_embeddings_are_those_of_the_text_alone(pretrained):
    vectors = prompt(pretrained.backbone).compose()
    a, b = jnp.asarray(normal(1, J, 9, 2)), jnp.asarray(normal(2, J, 2, vectors.shape[2], scale=0.3))
    hold(Prompted(pretrained.backbone, DecomposedPrompt(vectors, a, b)))


def test_logits_of_a_part_at_a_time_are_the_same(pretrained, monkeypatch):
    monkeypatch.setattr(class_scores, "LOGITS", 4 * pretrained.backbone.spec.vocab)
    hold(Prompted(pretrained.backbone, prompt(pretrained.backbone)))


@pytest.mark.parametrize("kind", ["tiny_model", "tiny_t5"])
def test_free_text_is_read_as_without_classes(kind, request):
    backbone = load_pretrained(str(request.getfixturevalue(kind))).backbone
    model = Prompted(backbone, prompt(backbone))
    among, alone = (
        scored(model).logits[1],
        outputs(model, tiny.collate(ROWS[1:2], [0], backbone.layout)).logits[0],
    )
    np.testing.assert_allclose(among, alone, rtol=1e-4, atol=1e-5)
