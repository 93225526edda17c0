"""Of two class words, one of which begins the other, either can win."""

import jax.numpy as jnp
import numpy as np
import pytest

from mpt.config.options import TrainConfig
from mpt.data.task import Example
from mpt.data.tokenise import encode
from mpt.inference.evaluate import choice_probabilities
from mpt.loading.hf import load_pretrained
from mpt.models.layers import Weight
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.rundir.directory import RunDir
from mpt.training.loop import train_stage
from mpt.training.stage import Stage

WORDS = ("good", "good bad")


@pytest.fixture(scope="module", params=["tiny_model", "tiny_t5"])
def loaded(request):
    return load_pretrained(str(request.getfixturevalue(request.param)))


@pytest.mark.parametrize("objective", ["classes", "vocabulary"])
def test_either_of_two_words_can_win(tmp_path, loaded, objective):
    backbone = loaded.backbone
    examples = [Example("{text}\nSo:", {"text": word}, word, WORDS) for word in WORDS]
    rows = encode(examples, loaded.tokenizer, 24, backbone.layout)
    prompt = SoftPrompt(jnp.zeros((1, 1, backbone.embedding.shape[1])))
    train = TrainConfig(steps=30, batch_size=8, objective=objective, save_every=30)
    model = Prompted(backbone, prompt)
    # A random model is too stiff for a prompt alone: all of it is trained.
    stage = Stage("adapt", model, [rows], train, tasks=["a"], trainable=Weight, weight_rate=0.01)
    trained, _ = train_stage(stage, RunDir(tmp_path))
    probabilities = choice_probabilities(trained, rows)
    assert np.all(np.diagonal(probabilities) > 0.5), probabilities
