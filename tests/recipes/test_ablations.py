"""MPT's parts can be left out by config."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from toys import stage

from mpt.config import PretrainConfig
from mpt.config_file import from_plain
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
    from mpt.models.prompted import Distilled

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
