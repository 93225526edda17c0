"""GGUF files as llama.cpp's converter writes them are the folders that were converted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from gguf_converted import FAMILIES, write_family, write_folder
from golden import tiny
from toys import ROOT
from transformers import PreTrainedConfig

from mpt.errors import UserError
from mpt.loading import families
from mpt.loading.config_file import read_config
from mpt.loading.gguf.architectures import ARCHITECTURES
from mpt.loading.gguf.file import open_gguf
from mpt.loading.hf import load_pretrained, open_tensors
from mpt.loading.weights import Tensors


@pytest.fixture(scope="module", params=FAMILIES)
def written(request, tmp_path_factory) -> tuple[str, Path, Path]:
    """A family, a folder of it, and the GGUF file that comes of it."""
    family, folder = request.param, tmp_path_factory.mktemp("model")
    return family, write_folder(folder, family), write_family(folder / "toy.gguf", family)


def test_every_architecture_is_written():
    assert {family.architecture for family in FAMILIES.values()} | {"gemma3"} == ARCHITECTURES.keys()


def test_the_config_is_the_folders(written):
    family, folder, file = written
    config, _, tensors = open_gguf(file)
    ours, theirs = described(config, tensors), described(read_config(folder), open_tensors(folder))
    assert ours.keys() == theirs.keys()
    if family == "llama-3":  # its factors are written for texts within the longest that the model reads
        theirs["longest"] = config.max_position_embeddings
    for name, value in ours.items():
        assert rounded(value) == rounded(theirs[name]), name


def described(config: PreTrainedConfig, tensors: Tensors) -> dict[str, object]:
    """What a model computes with; a rotation by its angles, of which there is more than one description."""
    spec = families.FAMILIES[config.model_type].spec(config, set(tensors))
    ropes = [(rope.amplitude, rope.part, *rope.frequencies(spec.head_dim).tolist()) for rope in spec.ropes]
    return {**asdict(spec), "longest": spec.longest, "ropes": ropes}


def rounded(value: object) -> object:
    """With numbers of which a file has 32 bits, and that are computed from such."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return f"{value:.5g}" if isinstance(value, float) else value


def test_the_tensors_are_the_folders(written):
    family, folder, file = written
    _, _, ours = open_gguf(file)
    theirs = open_tensors(folder)
    assert set(ours) == set(theirs) or family == "gpt_oss"
    for name in set(ours) & set(theirs):
        assert ours.shape(name) == ours[name].shape == theirs.shape(name)
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-7)


@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "phi3", "gemma2"])
def test_quantised_tensors_are_nearly_the_folders(family, tmp_path):
    """Each expert's matrix is dequantised by itself."""
    folder, file = write_folder(tmp_path, family), write_family(tmp_path / "toy.gguf", family, bits=8)
    _, _, ours = open_gguf(file)
    theirs = open_tensors(folder)
    assert set(ours) == set(theirs)
    differences = [np.abs(ours[name] - theirs[name]).max() for name in ours]
    assert 0 < max(differences) < 0.01


ONE_EACH = {how.architecture: family for family, how in FAMILIES.items()}.values()


@pytest.mark.parametrize("family", ONE_EACH)
@pytest.mark.parametrize("name", ["something_new", "attention.something_new", "rope.scaling.something_new"])
def test_a_field_that_is_not_known_is_refused_by_its_name(family, name, tmp_path):
    file = write_family(tmp_path / "toy.gguf", family, {name: 1})
    with pytest.raises(UserError, match=rf"toy.gguf: mpt does not know the field [\w-]+\.{name};"):
        open_gguf(file)


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        ("qwen2", "attention.sliding_window", 5),
        ("qwen3", "expert_count", 4),
        ("phi3", "attention.value_length", 4),
        ("gpt2", "attention.causal", 0),
        ("granite", "rope.scaling.finetuned", 0),
        ("smollm3", "rope.dimension_count_swa", 4),
        ("gemma4_text", "rope.dimension_count", 6),
        ("gemma4_text", "rope.dimension_count_swa", 4),
        ("gemma4_text", "attention.value_length_swa", 4),
        ("gemma4_text", "attention.head_count_kv", [2, 1, 1, 1, 2, 1]),
        ("gemma4_text", "feed_forward_length", [40, 40, 80, 40, 80, 80]),
        ("gemma4_text", "expert_count", 4),
        ("gemma4_text", "rope.scaling.factor", 2),
    ],
)
def test_a_value_that_is_not_computed_is_refused_by_its_name(family, name, value, tmp_path):
    file = write_family(tmp_path / "toy.gguf", family, {name: value})
    with pytest.raises(UserError, match=rf"toy.gguf: .*{FAMILIES[family].architecture}\.{name}"):
        open_gguf(file)


@pytest.mark.parametrize(
    "factors", [[2.0, 2.0, 2.0, 1e30, 1e30, 1e30], [1e30, 1, 1, 1, 1, 1], [1, 1, 1, 9, 9, 9]]
)
def test_factors_of_another_rotation_than_gemma_4s_are_refused(factors, tmp_path):
    tensors = {"rope_freqs.weight": np.array(factors, np.float32)}
    with pytest.raises(UserError, match=r"toy.gguf: rope_freqs.weight does not hold ones, and then 1e\+30"):
        open_gguf(write_family(tmp_path / "toy.gguf", "gemma4_text", tensors=tensors))


def test_gates_that_lie_apart_are_those_of_the_folder(tmp_path):
    """Of gpt-oss, whose folders have the units of gate and feed-forward in turn, in one tensor."""
    folder, file = write_folder(tmp_path, "gpt_oss"), write_family(tmp_path / "toy.gguf", "gpt_oss")
    ours, theirs = (load_pretrained(str(path)).backbone.layers for path in (file, folder))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_array_equal(ours[name][...], theirs[name][...])


def test_the_page_on_models_names_every_architecture():
    page = (ROOT / "docs" / "backbones.md").read_text()
    assert not [name for name in ARCHITECTURES if f"`{name}`" not in page]


def test_layers_that_guess_later_tokens_are_left_aside(tmp_path):
    """The converter writes Qwen3.5's behind the others, and counts them."""
    more = {"nextn_predict_layers": 1}
    config, _, tensors = open_gguf(write_family(tmp_path / "toy.gguf", "qwen3_5_text", more))
    family, names = families.FAMILIES["qwen3_5_text"], set(tensors)
    spec = family.spec(config, names)
    aside = family.not_needed(spec, names)
    assert spec.layers == len(spec.kinds) == tiny.CONFIGS["qwen3_5_text"]["num_hidden_layers"] - 1
    assert "mtp.0.self_attn.q_proj.weight" in aside
    assert not [name for name in names - aside if ".layers.5." in name]
