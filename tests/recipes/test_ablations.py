"""MPT's parts can be left out by config."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from toys import stage

from mpt.config.continual import ContinualConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import from_plain
from mpt.errors import UserError
from mpt.inference.predict import open_run
from mpt.methods import AdaptConfig
from mpt.prompts import MultitaskPrompt
from mpt.recipes.adapt import adapt
from mpt.recipes.continual import continual
from mpt.recipes.pretrain import pretrain


@pytest.fixture
def pretrained_with(tmp_path, plain_pretrain, pretrained):
    """Pretrains with other keys: the tensors of the universal prompt, and the stage's figures."""

    def run(**keys):
        config = plain_pretrain | {"out": str(tmp_path / "run"), "teachers": stage(2)} | keys
        out = pretrain(from_plain(PretrainConfig, config, "test"), pretrained)
        lines = (out / "universal" / "metrics.jsonl").read_text().splitlines()
        return load_file(out / "prompts" / "universal.safetensors"), [json.loads(line) for line in lines]

    return run


def test_without_distillation_no_teacher_is_read(pretrained_with, monkeypatch):
    from mpt.prompts.prompted import Distilled

    monkeypatch.setattr(Distilled, "teach", lambda *_: pytest.fail("a teacher was read"))
    _, lines = pretrained_with(universal=stage(2) | {"kl_weight": 0.0, "hidden_weight": 0.0})
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["loss"] == line["task"] for line in lines)
    assert "kl" not in lines[0]


def test_without_decomposition_tasks_share_the_prompt_whole(pretrained_with):
    tensors, _ = pretrained_with(universal=stage(2), vectors={"length": 4, "rank": 0})
    assert tensors["shared"].shape == (1, 4, 32)
    np.testing.assert_array_equal(tensors["u"], np.ones((2, 4, 1)))
    np.testing.assert_array_equal(tensors["v"], np.ones((2, 1, 32)))


def test_prompts_are_trained_to_tell_the_classes_apart(pretrained_with):
    """A loss among two words, not among all; kept teachers are compared on the same."""
    keys = {"objective": "classes"}
    _, lines = pretrained_with(
        teachers=stage(2) | keys, universal=stage(2) | keys | {"cache_teachers": True, "parts": 2}
    )
    assert 0.1 < lines[0]["task"] < 2 * np.log(2)
    assert 0 <= lines[0]["kl"] < 1
    assert lines[1]["loss"] < lines[0]["loss"] + 0.5


def test_instructions_tell_new_tasks_what_they_are(tmp_path, plain_pretrain, plain_adapt, pretrained, toy):
    out = str(tmp_path / "source")
    stages = {"teachers": stage(2), "universal": stage(2) | {"instruction": 3}}
    run = pretrain(from_plain(PretrainConfig, plain_pretrain | {"out": out} | stages, "test"), pretrained)
    tasks = plain_pretrain["tasks"]
    words = load_file(run / "prompts" / "universal.safetensors")["words"]
    ids = pretrained.tokenizer("Is it good or bad?\n")["input_ids"][-3:]
    embedded = np.asarray(pretrained.backbone.embed(jnp.asarray(ids)), np.float32)
    np.testing.assert_array_equal(words, np.stack([embedded] * len(tasks)))

    keys = {"out": str(tmp_path / "target"), "prompt": out, "train": stage(2)}
    result = adapt(from_plain(AdaptConfig, plain_adapt | keys, "test"), pretrained)
    adapted = load_file(tmp_path / "target" / "prompts" / "adapted.safetensors")["vectors"]
    length = words.shape[1]
    assert (adapted[:, -length:] != embedded).any(axis=(1, 2)).all()
    vectors = adapted.shape[1] - length
    assert result.parameters == vectors * 33 + 32 + length * 32  # P*, u and v, and the words

    keys["train"] = stage(2) | {"word_rate": 0.0}
    keys["out"] = str(tmp_path / "word for word")
    result = adapt(from_plain(AdaptConfig, plain_adapt | keys, "test"), pretrained)
    adapted = load_file(tmp_path / "word for word" / "prompts" / "adapted.safetensors")["vectors"]
    np.testing.assert_array_equal(adapted[:, -length:], np.stack([embedded] * len(adapted)))
    assert result.parameters == vectors * 33 + 32

    ready = open_run(run, plain_adapt["task"], 0, pretrained)  # not adapted, on a task that is new
    assert isinstance(ready.model.prompt, MultitaskPrompt)
    np.testing.assert_array_equal(ready.model.prompt.compose()[0, -length:], embedded)


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=pytest.mark.full)])
def test_instruction_after_a_start_from_scratch_trains_as_after_a_universal_one(
    frozen, tmp_path, plain_pretrain, plain_adapt, pretrained
):
    """A pretraining that moves nothing leaves what an adaptation from scratch starts from."""
    still = stage(1) | {"learning_rate": 0.0, "factor_rate": 0.0}
    vectors = {"length": 4, "start": "text", "text": "Say it in one word."}
    source = plain_pretrain | {"out": str(tmp_path / "source"), "vectors": vectors}
    stages = {"teachers": still, "universal": still | {"instruction": 3}}
    pretrain(from_plain(PretrainConfig, source | stages, "test"), pretrained)
    train = stage(2) | ({"learning_rate": 0.0} if frozen else {})
    taught = {"prompt": source["out"], "freeze_shared": frozen, "out": str(tmp_path / "taught")}
    untaught = {"vectors": vectors, "instruction": 3, "out": str(tmp_path / "untaught")}
    found = []
    for keys in (taught, untaught):
        adapt(from_plain(AdaptConfig, plain_adapt | keys | {"train": train}, "test"), pretrained)
        found.append(load_file(Path(keys["out"], "prompts", "adapted.safetensors"))["vectors"])
    np.testing.assert_allclose(*found, atol=1e-6)


def test_learners_keep_no_instructions(tmp_path, plain_pretrain, pretrained):
    out = str(tmp_path / "source")
    stages = {"teachers": stage(2), "universal": stage(2) | {"instruction": 3}}
    pretrain(from_plain(PretrainConfig, plain_pretrain | {"out": out} | stages, "test"), pretrained)
    plain = {"out": str(tmp_path / "run"), "prompt": out, "tasks": plain_pretrain["tasks"]}
    plain["model"] = plain_pretrain["model"]
    with pytest.raises(UserError, match="instructions, which continual methods do not have"):
        continual(from_plain(ContinualConfig, plain, "test"), pretrained)
