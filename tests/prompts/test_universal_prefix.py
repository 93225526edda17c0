"""A universal prompt in every layer acts as vectors do until it is trained, and new tasks start from it."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from runs import random
from toys import stage

from mpt.catalog.library import find_task
from mpt.config.options import PromptConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import from_plain
from mpt.data.tokenise import encode
from mpt.errors import UserError
from mpt.inference.evaluate import choice_probabilities
from mpt.inference.predict import open_run, predict
from mpt.loading.hf import load_pretrained
from mpt.methods import AdaptConfig
from mpt.methods.classifier import class_embeddings
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.recipes.adapt import adapt
from mpt.recipes.pretrain import pretrain
from mpt.serve.group import grouped

P = 4


@pytest.fixture(scope="module")
def rows(pretrained, toy):
    return encode(find_task(toy["tone"]).sample("test", 6), pretrained.tokenizer, 24)


@pytest.fixture(scope="module")
def universal(tmp_path_factory, plain_pretrain, pretrained):
    """A run whose universal prompt is in every layer."""
    keys = {
        "out": str(tmp_path_factory.mktemp("prefix") / "run"),
        "vectors": {"length": P, "rank": 0, "start": "text", "text": "read the text", "every_layer": True},
        "teachers": stage(0),
        "universal": stage(3) | {"wordings": 4, "kl_weight": 0, "hidden_weight": 0, "objective": "classes"},
        "max_length": 64,
        "gain_rows": 4,
    }
    return pretrain(from_plain(PretrainConfig, plain_pretrain | keys, "test"), pretrained)


def test_untrained_it_acts_as_vectors_in_front_of_the_words(pretrained, rows):
    width = pretrained.backbone.embedding.shape[-1]
    vectors, words = random(0, 1, P, width), random(1, 2, 3, width)
    prefix = UniversalPrefix.start(pretrained.backbone, vectors, words)
    factors = MultitaskPrompt.start(vectors[0], 2, 0, jnp.array([0, 1], jnp.uint32), words)
    assert prefix.extent(8) == factors.extent(8) == (2, P + 3)
    for index in (0, 1):
        found, wanted = (
            choice_probabilities(Prompted(pretrained.backbone, prompt), rows, index)
            for prompt in (prefix, factors)
        )
        np.testing.assert_allclose(found, wanted, rtol=2e-4)


def test_source_tasks_share_one_prefix(pretrained, rows):
    width = pretrained.backbone.embedding.shape[-1]
    vectors = random(0, 1, P, width)
    prefix = UniversalPrefix.start(pretrained.backbone, vectors, jnp.zeros((3, 0, width)))
    assert prefix.extent(8) == (1, P)
    plain = Prompted(pretrained.backbone, SoftPrompt(vectors))
    for index in (0, 2):
        found = choice_probabilities(Prompted(pretrained.backbone, prefix), rows, index)
        np.testing.assert_allclose(found, choice_probabilities(plain, rows, 0), rtol=2e-4)


def test_a_class_head_after_it_reads_as_after_vectors(pretrained, rows, toy):
    width = pretrained.backbone.embedding.shape[-1]
    vectors, classes = random(0, 1, P, width), class_embeddings([find_task(toy["tone"])], pretrained)
    prefix = UniversalPrefix.start(pretrained.backbone, vectors, vectors[:, :0])
    probe = np.asarray(random(5, classes.shape[1], 3, width))
    found, wanted = (
        choice_probabilities(
            Prompted(pretrained.backbone, HeadedPrompt.start(front, classes).rescored(0.5, 0.1, probe)), rows
        )
        for front in (prefix, SoftPrompt(vectors))
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_new_tasks_start_from_it_and_are_saved_with_a_class_head(
    universal, tmp_path, plain_adapt, pretrained, rows
):
    prompt, card = load_prompt(universal, "universal", pretrained)
    assert isinstance(prompt, UniversalPrefix) and card.kind == "universal prefix"
    assert prompt.keys.shape[0] == 1 and prompt.words.shape[1] == 0
    assert [gain["teacher"] for gain in json.loads((universal / "gains.json").read_text())] == [None, None]

    task = find_task(plain_adapt["task"])
    length = len(pretrained.tokenizer(task.hard_prompt)["input_ids"])
    keys = {"out": str(tmp_path / "target"), "prompt": str(universal), "train": stage(2), "seeds": [0, 1]}
    run = adapt(from_plain(AdaptConfig, plain_adapt | keys | {"method": "classifier"}, "test"), pretrained)
    assert run.parameters > prompt.keys.size + prompt.values.size
    ready = [open_run(tmp_path / "target", "", index, pretrained) for index in (0, 1)]
    for each in ready:
        assert isinstance(each.model.prompt, HeadedPrompt)
        assert each.model.prompt.extent(1)[1] == P + length
    assert [len(group.members) for group in grouped(ready[:1])] == [1]
    first, second = (choice_probabilities(each.model, rows, each.prompt_index) for each in ready)
    assert np.abs(first - second).max() > 0  # each seed has a copy of its own


def test_source_and_new_tasks_have_their_instruction_after_it(universal, pretrained, plain_adapt, toy):
    for task in (plain_adapt["task"], toy["tone"]):
        ready = open_run(universal, task, 0, pretrained)
        ids = pretrained.tokenizer(find_task(task).hard_prompt)["input_ids"]
        embedded = np.asarray(pretrained.backbone.embed(np.array(ids)), np.float32)
        np.testing.assert_array_equal(ready.model.prompt.words[0], embedded)


def test_from_scratch_it_is_the_same_not_pretrained(tmp_path, plain_adapt, pretrained):
    vectors = {"length": P, "start": "text", "text": "read the text", "every_layer": True}
    keys = {"out": str(tmp_path / "target"), "vectors": vectors, "instruction": -1, "train": stage(1)}
    adapt(from_plain(AdaptConfig, plain_adapt | keys, "test"), pretrained)
    prompt, _ = load_prompt(tmp_path / "target", "adapted", pretrained)
    assert isinstance(prompt, UniversalPrefix) and prompt.keys.shape[2] == P
    (answer,) = predict(open_run(tmp_path / "target", "", 0, pretrained), ["so great"], "test")
    assert json.loads(answer)["prediction"]


@pytest.mark.parametrize("method", ["spot", "dept", "lora", "prefix", "ulpt"])
def test_methods_that_start_from_vectors_refuse_it(method, universal, tmp_path, plain_adapt, pretrained):
    keys = {"out": str(tmp_path / "target"), "prompt": str(universal), "train": stage(1), "method": method}
    with pytest.raises(UserError, match=r"a prompt in every layer|no prompt 'teachers'"):
        adapt(from_plain(AdaptConfig, plain_adapt | keys, "test"), pretrained)


def test_what_does_not_go_with_it_is_refused(plain_pretrain, tiny_t5, plain_adapt, tmp_path):
    with pytest.raises(UserError, match=r"set vectors\.rank to 0, and universal\.wordings"):
        from_plain(PretrainConfig, plain_pretrain | {"vectors": {"length": P, "every_layer": True}}, "test")
    with pytest.raises(UserError, match=r"set only one of vectors\.layer and vectors\.every_layer"):
        PromptConfig(every_layer=True, layer=1)
    keys = {"model": {"name": str(tiny_t5)}, "vectors": {"length": P, "every_layer": True}}
    config = from_plain(AdaptConfig, plain_adapt | keys | {"out": str(tmp_path / "t5")}, "test")
    with pytest.raises(UserError, match="a prefix starts from text in decoder-only models"):
        adapt(config, load_pretrained(str(tiny_t5)))
