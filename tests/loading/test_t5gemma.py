"""What T5Gemma's configs of several parts and its checkpoints ask for is used, or refused by its name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden import tiny
from safetensors.numpy import load_file, save_file

from mpt.errors import UserError, warnings_once
from mpt.loading.hf import load_pretrained
from mpt.models.attention import NOWHERE

HEAD = "lm_head.out_proj.weight"
TABLES = {
    "t5gemma": "model.decoder.embed_tokens.weight",
    "t5gemma2": "model.encoder.text_model.embed_tokens.weight",
}


@pytest.fixture
def folder_with(tmp_path):
    """A checkpoint whose config has other values; a name with dots is of an inner config."""

    def write(family: str, **values):
        tiny.save(family, tmp_path)
        file = tmp_path / "config.json"
        config = json.loads(file.read_text())
        for name, value in values.items():
            *parts, last = name.split("__")
            inner = config
            for part in parts:
                inner = inner[part]
            inner[last] = value
        file.write_text(json.dumps(config))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("family", "name", "value", "fault"),
    [
        ("t5gemma", "encoder__is_causal", False, "config.json: is_causal is False"),
        ("t5gemma", "decoder__vocab_size", 0, "config.json: vocab_size must be a whole number"),
        ("t5gemma", "decoder__vocab_size", 47, "vocab_size is 48 in the encoder and 47 in the decoder"),
        ("t5gemma", "decoder__bos_token_id", None, "decoder: bos_token_id is None, no token of 48"),
        (
            "t5gemma",
            "decoder_start_token_id",
            7,
            "decoder_start_token_id is 7, and the decoder",
        ),
        (
            "t5gemma",
            "encoder__layer_types",
            ["chunked_attention"] * 2,
            "'chunked_attention' is not",
        ),
        ("t5gemma", "decoder__hidden_activation", "tanh", "activation 'tanh' is not supported"),
        ("t5gemma2", "tie_word_embeddings", False, "tie_word_embeddings is false"),
        ("t5gemma2", "decoder__use_bidirectional_attention", True, "use_bidirectional_attention is True"),
        ("t5gemma2", "encoder__text_config", {"is_causal": False}, "config.json: is_causal is False"),
    ],
)
def test_what_is_not_computed_is_refused_by_its_name(folder_with, family, name, value, fault):
    if isinstance(value, dict):
        value = tiny.CONFIGS[family]["encoder"]["text_config"] | value
    with pytest.raises(UserError, match=fault):
        load_pretrained(str(folder_with(family, **{name: value})))


@pytest.mark.parametrize(
    ("family", "windows", "ahead"),
    [("t5gemma", (NOWHERE, 5), (NOWHERE - 1, 4)), ("t5gemma2", (NOWHERE, 2), (NOWHERE, 2))],
)
def test_an_encoders_window_is_on_both_sides(family, windows, ahead):
    """T5Gemma's of 4 is of as many before and as many after, T5Gemma 2's of both and the position itself."""
    from transformers import AutoConfig

    from mpt.loading.families import FAMILIES

    spec = FAMILIES[family].spec(AutoConfig.for_model(**tiny.CONFIGS[family]), set())
    assert (spec.encoder.windows, spec.encoder.ahead) == (windows, ahead)


def _with(folder, name: str, tensor: np.ndarray) -> str:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: np.ascontiguousarray(tensor)}, folder / "model.safetensors")
    return str(folder)


@pytest.mark.parametrize("family", TABLES)
def test_a_tied_head_stays_tied_and_one_of_the_files_own_is_used(folder_with, family):
    """As in transformers, which then does not tie what the config ties."""
    folder = folder_with(family)
    table = load_file(folder / "model.safetensors")[TABLES[family]]
    assert load_pretrained(_with(folder, HEAD, table)).backbone.spec.tied
    own = load_pretrained(_with(folder, HEAD, 2 * table[::-1])).backbone
    assert not own.spec.tied
    np.testing.assert_array_equal(own.ends["head"][...], 2 * table[::-1])


def test_a_table_of_the_decoders_own_is_refused_where_there_is_one_for_both(folder_with):
    folder, name = folder_with("t5gemma2"), "model.decoder.embed_tokens.weight"
    table = load_file(folder / "model.safetensors")[TABLES["t5gemma2"]]
    load_pretrained(_with(folder, name, table))
    with pytest.raises(UserError, match=rf"'{name}' in .* has no place in the model"):
        load_pretrained(_with(folder, name, -table))


def test_the_names_of_older_checkpoints_are_read_and_images_are_left_aside_once(folder_with, capsys):
    folder = folder_with("t5gemma2")
    with warnings_once():
        new = load_pretrained(str(folder)).backbone
        tensors = load_file(folder / "model.safetensors")
        older = {name.replace(".text_model.", "."): value for name, value in tensors.items()}
        save_file(older, folder / "model.safetensors")
        old = load_pretrained(str(folder)).backbone
    np.testing.assert_array_equal(new.embedding[...], old.embedding[...])
    assert capsys.readouterr().err.count("tensors for images are ignored") == 1
