"""Models that come in Python packages: in parts, and under terms that are accepted first. pip is replaced."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf_toy import GEMMA_TOKENS, write_gemma
from golden import tiny

from mpt.errors import UserError
from mpt.loading import packaged
from mpt.loading.gguf.file import open_gguf
from mpt.loading.hf import load_pretrained
from mpt.loading.packaged import ACCEPTED, PACKAGED, Packaged, packaged_file, packaged_file_here
from mpt.loading.shapes import abstract_backbone
from mpt.system import assets
from mpt.system.assets import ASSETS

NAME = "gemma3-270m"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write_gemma(tmp_path_factory.mktemp("gguf") / "toy.gguf")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The Hugging Face folder of the same model."""
    written = tiny.save("gemma3_text", tmp_path / "folder")
    config = json.loads((written / "config.json").read_text())
    del config["query_pre_attn_scalar"], config["sliding_window_pattern"], config["rope_parameters"]
    config |= {"query_pre_attn_scalar": 8, "max_position_embeddings": 64}
    (written / "config.json").write_text(json.dumps(config))
    return written


def test_a_gguf_file_of_gemma_is_the_folder_of_the_same_weights(file, folder):
    ours, theirs = load_pretrained(str(file)).backbone, load_pretrained(str(folder)).backbone
    assert replace(ours.spec, norm_eps=1e-6) == theirs.spec  # the file has it in 32 bits
    assert ours.layers.keys() == theirs.layers.keys()
    for name in theirs.layers:
        np.testing.assert_allclose(ours.layers[name][...], theirs.layers[name][...], atol=1e-6)
    np.testing.assert_array_equal(ours.embedding, theirs.embedding)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello world", ["hello", "▁world"]),
        ("hello   he", ["hello", "▁▁▁", "he"]),
        ("a  b\n1", ["a", "▁▁", "b", "\n", "1"]),
        ("lolol", ["lo", "lo", "l"]),
        ("", []),
    ],
)
def test_texts_are_merged_in_the_order_of_the_files_tokens(file, text, tokens):
    _, tokenizer, _ = open_gguf(file)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [tokenizer.convert_ids_to_tokens(number) for number in ids] == tokens
    assert tokenizer(text)["input_ids"] == [2, *ids]
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == len(GEMMA_TOKENS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gemma3.rope.scaling.type", "longrope"),
        ("gemma3.attention.causal", False),
        ("gemma3.something_new", 1),
        ("tokenizer.ggml.add_space_prefix", True),
    ],
)
def test_a_field_of_gemmas_that_is_not_computed_is_refused_by_its_name(tmp_path, name, value):
    more = {"gemma3.rope.scaling.factor": 4.0} if name == "gemma3.rope.scaling.type" else {}
    with pytest.raises(UserError, match=rf"toy.gguf: .*{name}"):
        open_gguf(write_gemma(tmp_path / "toy.gguf", {name: value, **more}))


@pytest.mark.parametrize(("name", "value"), [("rope.freq_base", 5e5), ("final_logit_softcapping", 30.0)])
def test_fields_that_a_larger_gemma_has_are_used(tmp_path, name, value):
    config, _, _ = open_gguf(write_gemma(tmp_path / "toy.gguf", {f"gemma3.{name}": value}))
    ropes = config.rope_parameters
    assert value in (ropes["full_attention"]["rope_theta"], config.final_logit_softcapping)
    assert ropes["sliding_attention"]["rope_theta"] == 10_000.0


@pytest.mark.parametrize(("pattern", "near"), [({}, 4), ({"gemma3.attention.sliding_window_pattern": 2}, 2)])
def test_the_last_of_so_many_layers_sees_all_positions(tmp_path, pattern, near):
    """Of six, where the file does not say of how many; this model has four."""
    config, _, _ = open_gguf(write_gemma(tmp_path / "toy.gguf", pattern))
    assert config.layer_types.count("sliding_attention") == near


def wheel(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def index(file, tmp_path, monkeypatch) -> list[str]:
    """A package index with a small Gemma in parts; gives the names of the packages that pip was asked for."""
    monkeypatch.setenv("MPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(ACCEPTED, raising=False)
    whole, real = file.read_bytes(), PACKAGED[NAME]
    cuts = [len(whole) * i // 4 for i in range(5)]
    contents = {
        package: {path: whole[start:end], "code.py": b"raise SystemExit"}
        for (package, path), start, end in zip(real.parts, cuts, cuts[1:])
    }
    contents[real.terms.package] = dict.fromkeys(ASSETS[real.terms.package].members, b"terms")
    wheels = {package: wheel(files) for package, files in contents.items()}
    small = {
        package: replace(ASSETS[package], sha256=hashlib.sha256(content).hexdigest())
        for package, content in wheels.items()
    }
    monkeypatch.setattr(assets, "ASSETS", small)
    monkeypatch.setitem(PACKAGED, NAME, real._replace(sha256=hashlib.sha256(whole).hexdigest()))
    asked: list[str] = []

    def pip(command, **options) -> subprocess.CompletedProcess:
        required = Path(command[command.index("--requirement") + 1]).read_text()
        package = required.partition("==")[0]
        asked.append(package)
        (Path(command[command.index("--dest") + 1]) / small[package].file).write_bytes(wheels[package])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    return asked


def test_nothing_is_fetched_before_the_terms_are_accepted(index, monkeypatch, tmp_path):
    told = r"under the Gemma Terms of Use, https://ai.google.dev/gemma/terms, .* set MPT_ACCEPT_TERMS=gemma3"
    with pytest.raises(UserError, match=told):
        load_pretrained(NAME)
    monkeypatch.setenv(ACCEPTED, "another-model")
    with pytest.raises(UserError, match=told):
        load_pretrained(NAME)
    assert index == [] and not (tmp_path / "cache").exists()


def test_a_model_in_parts_is_put_together_once_and_loads(index, monkeypatch, file, tmp_path):
    assert packaged_file_here(NAME) is None
    monkeypatch.setenv(ACCEPTED, f"another-model, {NAME}")
    loaded = load_pretrained(NAME)
    parts = [package for package, _ in PACKAGED[NAME].parts]
    assert index == [PACKAGED[NAME].terms.package, *parts]
    assert packaged_file_here(NAME).read_bytes() == file.read_bytes()
    assert any(path.name == "GEMMA_TERMS.html" for path in tmp_path.rglob("*"))
    assert not any(path.name == "code.py" for path in tmp_path.rglob("*"))
    theirs = load_pretrained(str(file))
    assert loaded.hash == theirs.hash and loaded.backbone.spec == theirs.backbone.spec
    assert loaded.tokenizer("hello world\n")["input_ids"] == theirs.tokenizer("hello world\n")["input_ids"]
    monkeypatch.delenv(ACCEPTED)  # what is here has been accepted
    assert load_pretrained(NAME).hash == loaded.hash and len(index) == 5


def test_parts_that_do_not_make_the_whole_are_refused_and_leave_nothing(index, monkeypatch, tmp_path):
    monkeypatch.setenv(ACCEPTED, NAME)
    monkeypatch.setitem(PACKAGED, NAME, PACKAGED[NAME]._replace(sha256="0" * 64))
    with pytest.raises(UserError, match=r"put together from 4 parts it has SHA-256 .*, expected 000"):
        packaged_file(NAME)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.parametrize("name", PACKAGED)
def test_every_part_is_in_what_its_package_unpacks(name):
    model: Packaged = PACKAGED[name]
    assert model.sha256 or len(model.parts) == 1
    for package, path in model.parts:
        assert path.startswith(ASSETS[package].members)
    assert model.terms is None or model.terms.package in ASSETS


@pytest.mark.parametrize(("name", "count"), [("smollm2-135m", 134_515_008), (NAME, 268_098_176)])
def test_plans_know_the_shapes_before_anything_is_fetched(name, count, monkeypatch, tmp_path):
    import jax
    from flax import nnx

    monkeypatch.setenv("MPT_CACHE", str(tmp_path / "cache"))
    assert packaged.packaged_file_here(name) is None
    state = nnx.state(abstract_backbone(name))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == count
