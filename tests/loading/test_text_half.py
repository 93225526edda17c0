"""Of a model that reads images too, the text half is used, by whatever names a checkpoint has."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden import tiny
from safetensors.numpy import load_file, save_file

from mpt.errors import UserError, warnings_once
from mpt.loading.hf import load_pretrained
from mpt.loading.shapes import abstract_backbone
from mpt.models.cost import parameter_count


@pytest.fixture
def gemma(tmp_path):
    return tiny.save("gemma3", tmp_path / "model")


def _rename(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file({change(name): tensors[name] for name in tensors}, folder / "model.safetensors")


def test_it_is_a_model_of_texts_alone(gemma, tmp_path):
    """The same tensors by the names of a model that reads no images give the same backbone."""
    tensors = load_file(gemma / "model.safetensors")
    half = {n.replace("model.language_model.", "model."): tensors[n] for n in tensors if "language" in n}
    alone = load_pretrained(str(tiny.save("gemma3_text", tmp_path / "alone", half))).backbone
    found = load_pretrained(str(gemma)).backbone
    assert found.spec == alone.spec == abstract_backbone(str(gemma)).spec
    assert parameter_count(found) == sum(map(np.size, half.values()))
    for name, weight in alone.layers.items():
        np.testing.assert_array_equal(found.layers[name][...], weight[...])


def test_the_names_of_older_checkpoints_are_read(gemma):
    new = load_pretrained(str(gemma)).backbone

    def older(name):
        name = name.removeprefix("model.")
        return name.replace("language_model.", "language_model.model.")

    _rename(gemma, older)
    old = load_pretrained(str(gemma)).backbone
    np.testing.assert_array_equal(new.embedding[...], old.embedding[...])


def test_what_is_left_aside_is_said_once(gemma, capsys):
    with warnings_once():
        load_pretrained(str(gemma)), load_pretrained(str(gemma))
    said = capsys.readouterr().err
    assert said.count("tensors for images are ignored") == 1 and str(gemma) in said


def test_a_tensor_of_neither_half_is_refused(gemma):
    _rename(gemma, lambda name: name.replace("vision_tower", "sound_tower"))
    with pytest.raises(UserError, match=r"'model.sound_tower.* has no place in the model"):
        load_pretrained(str(gemma))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bloom"}, "text_config: model type 'bloom' is not supported"),
        # transformers computes a Gemma 3 whatever stands here
        ({"model_type": "llama"}, "text_config: model type 'llama' is not supported; 'gemma3_text' is here"),
        ({"use_bidirectional_attention": True}, "config.json: use_bidirectional_attention is True"),
        ({"final_logit_softcapping": 30.0}, "config.json: text_config: final_logit_softcapping"),
    ],
)
def test_a_text_half_that_is_not_computed_is_refused(gemma, change, message):
    config = json.loads((gemma / "config.json").read_text())
    config["text_config"] |= change
    if change.get("model_type") == "bloom":
        config |= {"model_type": "mistral3", "vision_config": tiny.CONFIGS["mistral3"]["vision_config"]}
    (gemma / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        load_pretrained(str(gemma))
