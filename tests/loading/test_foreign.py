"""What is wrong with a model's folder or a path is told in one line, and no code of a model's is run."""

from __future__ import annotations

import json

import pytest
from golden import tiny
from safetensors.numpy import load_file, save_file
from toys import refused, write_spiece

from mpt.errors import UserError
from mpt.loading import tokenizer_files
from mpt.loading.hf import load_pretrained, open_folder


@pytest.fixture
def folder(tmp_path):
    return tiny.save("llama", tmp_path / "model")


def _change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json: not readable as JSON"),
        ("[]", "config.json: must hold a JSON object, not a list"),
        ("{}", "model type None is not supported"),
        ('{"model_type": ["llama"]}', "model type .* is not supported"),
        (
            '{"model_type": "new", "auto_map": {"AutoConfig": "code.New"}}',
            "model type 'new' is not supported",
        ),
        ('{"model_type": "llama", "rms_norm_eps": NaN}', "NaN is no number of JSON's"),
        ('{"model_type": "llama", "rms_norm_eps": 1e999}', "1e999 is no number of JSON's"),
        ('{"model_type": "llama", "hidden_size": "32"}', "transformers cannot read it: .*hidden_size"),
        ('{"model_type": "gemma2", "hidden_activation": null}', "transformers cannot read it"),
    ],
)
def test_a_faulty_config(folder, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load_pretrained(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_never_run(folder, file):
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass New: pass\n")
    _change(folder / file, auto_map={"AutoConfig": "code.New", "AutoTokenizer": ["code.New", None]})
    try:
        open_folder(folder)
    except UserError as error:
        assert "\n" not in str(error)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_faulty_index(folder, content):
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"model.safetensors.index.json: "):
        load_pretrained(str(folder))


def test_a_tensor_in_two_files_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({"model.norm.weight": tensors["model.norm.weight"]}, folder / "more.safetensors")
    names = {"model.norm.weight": "more.safetensors", "lm_head.weight": "model.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(UserError, match=r"'model.norm.weight' is in model.safetensors, too"):
        load_pretrained(str(folder))


def test_a_sentencepiece_file_alone_names_the_package_that_reads_it(folder, monkeypatch):
    for file in folder.glob("*token*"):
        file.unlink()
    (folder / "spiece.model").write_bytes(b"\n\x0e\n\x05<pad>\x15\x00\x00\x00\x00\x18\x03")
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"spiece.model: .*python -m pip install sentencepiece"):
        open_folder(folder)


def test_a_sentencepiece_file_alone_is_read(tmp_path):
    _, tokenizer, _ = open_folder(write_spiece(tmp_path))
    assert "".join(tokenizer.tokenize("so great")) == "▁so▁great"
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "</s>"


@pytest.mark.parametrize("content", [b"", b"\n", b"abc", b"\0" * 400, b"version https://git-lfs.github.com/"])
def test_a_damaged_sentencepiece_file_is_named_with_no_package_that_would_not_help(tmp_path, content):
    write_spiece(tmp_path)
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(UserError, match=r"spiece.model: not a readable sentencepiece file; fetch it again$"):
        open_folder(tmp_path)


def test_a_tokenizer_that_is_missing_or_is_code_is_told_as_such(folder):
    _change(
        folder / "tokenizer_config.json",
        tokenizer_class="New",
        auto_map={"AutoTokenizer": ["code.New", None]},
    )
    with pytest.raises(
        UserError, match=r"code that comes with it, which mpt never runs; take another model$"
    ):
        open_folder(folder)
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(UserError, match=r"no tokenizer.json, nor any other file with a vocabulary"):
        open_folder(folder)


def test_a_run_below_a_file_is_refused_in_one_line(capsys, tmp_path, folder):
    (tmp_path / "file").write_text("precious")
    rows = "".join(json.dumps({"text": f"w{i} w5", "label": "ab"[i % 2]}) + "\n" for i in range(8, 40))
    (tmp_path / "rows.jsonl").write_text(rows)
    task = {"source": "rows.jsonl", "template": "{text}", "verbalizer": {"a": "w6", "b": "w7"}}
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    given = ("--task", str(tmp_path / "task.yaml"), "--model.name", str(folder))
    error = refused(capsys, "adapt", *given, "--out", str(tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in error
    assert (tmp_path / "file").read_text() == "precious"
