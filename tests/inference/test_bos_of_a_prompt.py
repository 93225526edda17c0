"""A prompt's texts begin as they did when it was trained, whatever is done with it."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from runs import random, run_of, universal_run
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from toys import tiny_tokenizer, write_task

from mpt import cli
from mpt.catalog.library import find_task
from mpt.config.options import ModelConfig, PromptConfig
from mpt.config.yaml_file import from_plain
from mpt.continual_learning.task_identity import features
from mpt.data.records import Record
from mpt.data.tokenise import encode
from mpt.inference.predict import open_run
from mpt.interop.exporting import export_run
from mpt.interop.peft_folder import write_plain
from mpt.loading.hf import load_pretrained
from mpt.methods.examples import in_context
from mpt.prompts import SoftPrompt
from mpt.prompts.initial import starting_vectors
from mpt.prompts.saved import load_prompt
from mpt.serve.engine import Engine

RECORD = Record("here", {"text": "so we go"})


@pytest.fixture
def run(tmp_path, beginning_model):
    """A prompt that was trained on texts with the token."""
    return run_of(tmp_path / "new", beginning_model, SoftPrompt(random(5, 1, 4, 32)), "tone")


@pytest.fixture
def old_run(tmp_path, beginning_model):
    """A prompt whose card was written before cards said how texts begin."""
    return _made_old(run_of(tmp_path / "old", beginning_model, SoftPrompt(random(5, 1, 4, 32)), "colour"))


def _made_old(run):
    (file,) = (run / "prompts").glob("*.json")
    card = json.loads(file.read_text())
    assert card.pop("bos") is True
    file.write_text(json.dumps(card))
    return run


def inputs(ready) -> list[int]:
    (row,) = ready.encode([ready.unlabelled(RECORD)])
    return list(row.inputs)


def test_the_card_says_it_and_an_older_one_means_that_there_is_none(run, old_run):
    new, old = open_run(run), open_run(old_run)
    assert inputs(new) == [1, *inputs(old)]
    assert "begins with the beginning-of-text token" in (run / "prompts" / "adapted.md").read_text()


def test_one_server_gives_each_prompt_its_own(run, old_run):
    tasks = Engine([run, old_run], 2, 4).tasks
    assert inputs(tasks["tone"].ready) == [1, *inputs(tasks["colour"].ready)]


def test_a_model_without_it_is_read_as_ever(tmp_path, tiny_model):
    run = run_of(tmp_path / "plain", tiny_model, SoftPrompt(random(5, 1, 4, 32)), "tone")
    assert load_prompt(run, "adapted")[1].bos is False
    assert inputs(open_run(run)) == tiny_tokenizer()("so we go\nSo:")["input_ids"]


@pytest.mark.parametrize("age", ["new", "old"])
@pytest.mark.parametrize(("rule", "wanted"), [("auto", None), ("true", True), ("false", False)])
def test_an_adaptation_begins_texts_as_its_source_did(
    age, rule, wanted, tmp_path, beginning_model, plain_adapt, config_file
):
    source = universal_run(tmp_path / "source", beginning_model)
    if age == "old":
        _made_old(source)
    model = {"name": str(beginning_model), "bos": rule}
    config = plain_adapt | {"model": model, "prompt": str(source), "out": str(tmp_path / "run")}
    config["train"] = config["train"] | {"steps": 1}
    assert cli.main(["adapt", config_file(config)]) == 0
    card = load_prompt(tmp_path / "run", "adapted")[1]
    assert card.bos is ((age == "new") if wanted is None else wanted)


@pytest.mark.parametrize("written", ["true", True])
def test_the_option_may_be_written_as_yaml_writes_a_boolean(written):
    assert from_plain(ModelConfig, {"bos": written}, "here").bos == "true"


@pytest.mark.parametrize(("rule", "wanted"), [("auto", True), ("false", False)])
def test_an_import_does_as_the_tokenizer_of_pefts_users_does(rule, wanted, tmp_path, beginning_model):
    write_plain(tmp_path / "peft", np.ones((4, 32), np.float32), str(beginning_model), "decoder")
    task, out = write_task(tmp_path, "tone"), tmp_path / "run"
    arguments = ["--model", beginning_model, "--task", task, "--out", out, "--bos", rule]
    assert cli.main(["import", *map(str, [tmp_path / "peft", *arguments])]) == 0
    assert load_prompt(out, "universal")[1].bos is wanted
    assert (inputs(open_run(out))[0] == 1) is wanted


@pytest.mark.parametrize("age", ["new", "old", "older"])
def test_what_mpt_has_exported_comes_back_as_it_was(age, run, old_run, tmp_path, beginning_model):
    folder = (
        export_run(run if age == "new" else old_run, "peft") / f"0-{'tone' if age == 'new' else 'colour'}"
    )
    if age == "older":  # before the rule was written beside the weights' hash
        file = folder / "adapter_model.safetensors"
        with safe_open(file, "numpy") as opened:
            kept = {name: value for name, value in opened.metadata().items() if "bos" not in name}
        save_file(load_file(file), file, metadata=kept)
    task, out = write_task(tmp_path, "tone"), tmp_path / "back"
    arguments = [folder, "--model", beginning_model, "--task", task, "--out", out]
    assert cli.main(["import", *map(str, arguments)]) == 0
    assert load_prompt(out, "universal")[1].bos is (age == "new")


@pytest.mark.parametrize("format", ["peft", "embeddings"])
def test_an_export_says_it(format, run, old_run):
    new, old = ((export_run(each, format) / "README.md").read_text() for each in (run, old_run))
    assert "tokenizer(tokenizer.bos_token + text, add_special_tokens=False" in new
    assert "tokenizer(text, add_special_tokens=False" in old


def test_a_prompt_made_of_words_has_none_where_texts_have_it(tmp_path, beginning_model):
    task, pretrained = find_task(str(write_task(tmp_path, "tone"))), load_pretrained(str(beginning_model))
    words = tiny_tokenizer()(task.instruction)["input_ids"]
    start = words_start(task, pretrained)
    np.testing.assert_array_equal(start, pretrained.backbone.embed(jnp.asarray([words])))
    without = words_start(task, pretrained.beginning("false"))  # as prompts began when texts had none
    np.testing.assert_array_equal(without, pretrained.backbone.embed(jnp.asarray([[1, *words]])))


def words_start(task, pretrained):
    return starting_vectors(PromptConfig(start="instruction", length=0), [task], [0], pretrained)


def test_examples_in_context_leave_it_to_the_text_after_them(tmp_path, beginning_model):
    task, pretrained = find_task(str(write_task(tmp_path, "tone"))), load_pretrained(str(beginning_model))
    examples = task.sample("train", 3)
    rows, bare = (encode(examples, pretrained.tokenizer, 24, bos=bos) for bos in (1, None))
    shown = in_context(task, rows, pretrained.tokenizer, 90, 0, pretrained.bos).ids
    assert shown == in_context(task, bare, pretrained.tokenizer, 90, 0).ids
    assert 1 not in shown


def test_a_text_by_itself_is_read_with_it(beginning_model):
    pretrained = load_pretrained(str(beginning_model))
    with_it, without = (features(each, ["so we"], 8) for each in (pretrained, pretrained.beginning("false")))
    assert np.abs(with_it - without).max() > 1e-3
    spelled = features(pretrained, ["<pad>so we"], 8)
    np.testing.assert_allclose(with_it, spelled, rtol=1e-6)
