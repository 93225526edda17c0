"""Prompts that enter before a later layer: adapted, saved, read back, refused where they cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import normal, tiny
from runs import random, run_of

from mpt.config.options import PromptConfig
from mpt.config.yaml_file import from_plain
from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.inference.predict import evaluate, open_run
from mpt.insight.positions import row_losses
from mpt.interop.exporting import export_run
from mpt.methods import AdaptConfig
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts import SoftPrompt
from mpt.prompts.initial import instruction_words, starting_vectors
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.recipes.adapt import adapt
from mpt.recipes.inspect import inspect
from mpt.types import Row

LATE = {"length": 4, "layer": 1}
TASK = Task("t", Files({}), "{text}", instruction="good or bad")


def config(plain_adapt, folder, **keys) -> AdaptConfig:
    return from_plain(
        AdaptConfig, plain_adapt | {"vectors": LATE, "out": str(folder / "run"), **keys}, "test"
    )


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_an_adapted_prompt_is_read_back_with_its_layer(tmp_path, plain_adapt, pretrained, method):
    """What is saved scores as the trained model did; without the layer it is another prompt."""
    settings = config(plain_adapt, tmp_path, method=method)
    result, run = adapt(settings, pretrained), tmp_path / "run"
    prompt, card = load_prompt(run, "adapted")
    assert (prompt.layer, card.layer) == (1, 1)
    ready = open_run(run, pretrained=pretrained)
    assert ready.model.prompt.layer == 1
    assert evaluate(run, "", "test", 16, 0)["accuracy"] == result.scores[0]


def test_a_card_without_a_layer_has_layer_0(tmp_path, tiny_model):
    run = run_of(tmp_path, tiny_model, SoftPrompt(random(5, 1, 4, 32), 1), "tone")
    file = run / "prompts" / "adapted.json"
    card = json.loads(file.read_text())
    assert card.pop("layer") == 1
    file.write_text(json.dumps(card))
    assert load_prompt(run, "adapted")[0].layer == 0


@pytest.mark.parametrize("start", ["instruction", "classes", "vocabulary"])
def test_prompts_start_as_hidden_states(pretrained, start):
    """Those of the same tokens, which run through the layers below by themselves."""
    task, early = replace(TASK, verbalizer={"1": "good", "0": "bad"}), PromptConfig(length=3, start=start)
    embedded = starting_vectors(early, [task], [0], pretrained)
    found = starting_vectors(replace(early, layer=1), [task], [0], pretrained)
    np.testing.assert_array_equal(found, pretrained.backbone.lower_vectors(embedded, 1))
    assert not np.allclose(found, embedded, atol=0.1)


def test_instructions_after_a_universal_prompt_are_hidden_states_too(pretrained):
    found, embedded = (instruction_words([TASK], 3, pretrained, layer) for layer in (1, 0))
    np.testing.assert_array_equal(found, pretrained.backbone.lower_vectors(embedded, 1))


@pytest.mark.parametrize("ids", [[0, 1, 0], [0, 0, 0]], ids=["two prefixes", "one prefix"])
def test_a_prefix_acts_as_the_vectors_that_enter_before_its_first_layer(pretrained, ids):
    backbone, vectors = pretrained.backbone, jnp.asarray(normal(0, 1 + max(ids), 3, 32))
    prefix = PrefixPrompt.from_vectors(backbone, vectors, 1)
    assert prefix.keys.shape[1] == backbone.depth - 1
    batch = tiny.collate([Row([5, 6, 7], [8]), Row([9], [10, 11]), Row([4, 5], [3])], ids)
    found, wanted = (Prompted(backbone, each)(batch) for each in (prefix, SoftPrompt(vectors, 1)))
    np.testing.assert_allclose(found.logits[batch.labelled], wanted.logits[batch.labelled], atol=2e-5)


@pytest.mark.parametrize("method", ["dept", "lora", "examples"])
def test_methods_without_a_place_for_it_refuse_a_layer(tmp_path, plain_adapt, pretrained, method):
    with pytest.raises(
        UserError, match=f"method {method}: .* only prompt, classifier and prefix support vectors.layer"
    ):
        adapt(config(plain_adapt, tmp_path, method=method), pretrained)


def test_a_layer_that_is_not_there_is_refused(pretrained):
    with pytest.raises(UserError, match="below 2, the number of layers, not 2"):
        starting_vectors(PromptConfig(layer=2), [TASK], [0], pretrained)


@pytest.mark.parametrize("format", ["peft", "embeddings"])
def test_other_libraries_are_not_given_it(tmp_path, tiny_model, format):
    run = run_of(tmp_path, tiny_model, SoftPrompt(random(5, 1, 4, 32), 1), "tone")
    with pytest.raises(UserError, match=r"before layer 1 .* other libraries"):
        export_run(run, format)


def test_inspection_tries_it_where_it_enters(tmp_path, tiny_model, pretrained):
    vectors, rows = random(5, 1, 4, 32), [Row([5, 6, 7], [8]), Row([9, 10], [11])]
    scored = row_losses(pretrained.backbone, np.asarray(vectors[0]), rows, 1)
    batch = tiny.collate(rows, [0, 0])
    logits = pretrained.backbone(batch, vectors, layer=1).logits[:, 0]
    wanted = -jax.nn.log_softmax(logits)[jnp.arange(2), batch.targets[:, 0]]
    np.testing.assert_allclose(scored, wanted, rtol=1e-5)
    run = run_of(tmp_path, tiny_model, SoftPrompt(vectors, 1), "tone")
    assert any("before layer 1" in line for line in inspect(run, rows=0, pretrained=pretrained).missing)
