"""Prompts as plain arrays; the README's example is run as it stands."""

from __future__ import annotations

import re

import numpy as np
import pytest
from runs import adapted_run, random, run_of, universal_run
from safetensors.numpy import load_file

from mpt.data.batches import collate
from mpt.data.task import Example
from mpt.data.tokenise import encode
from mpt.inference.generate import generate
from mpt.interop.exporting import export_run
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.saved import load_prompt


def blocks(folder) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)


def test_both_files_hold_the_prompts(tmp_path, tiny_model):
    run = universal_run(tmp_path, tiny_model)
    out = export_run(run, "embeddings")
    names = ["0-tone", "1-colour"]
    files = {f"{name}.{kind}" for name in names for kind in ("npy", "safetensors")}
    assert {file.name for file in out.iterdir()} == files | {"README.md"}
    for name, vectors in zip(names, np.asarray(load_prompt(run, "universal")[0].compose())):
        np.testing.assert_array_equal(load_file(out / f"{name}.safetensors")["prompt"], vectors)
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), vectors)


@pytest.mark.full
@pytest.mark.parametrize("model", ["tiny_model", "tiny_t5"])
def test_the_readmes_example_runs_and_writes_what_mpt_writes(
    model, request, tmp_path, monkeypatch, capsys, torch
):
    folder = request.getfixturevalue(model)
    run = run_of(tmp_path, folder, SoftPrompt(random(5, 1, 4, 32)), "tone")
    out = export_run(run, "embeddings")
    monkeypatch.chdir(out)
    capsys.readouterr()
    found: dict = {}
    exec(blocks(out)[0], found)

    pretrained, (prompt, card) = load_pretrained(str(folder)), load_prompt(run, "adapted")
    end = pretrained.tokenizer.eos_token_id
    example = Example(card.task("tone").template, {"text": "your text"}, "")
    (row,) = encode([example], pretrained.tokenizer, 64, pretrained.backbone.layout)
    batch = collate([row._replace(targets=[end])], [0], pretrained.backbone.layout)
    (ids,) = generate(pretrained.backbone, batch, prompt.compose(), max_new_tokens=20, stop=[end])
    assert len(ids) > 3
    assert found["inputs"].shape == (1, 4 + len(row.inputs), 32)
    expected = pretrained.tokenizer.decode(ids, skip_special_tokens=True)
    assert capsys.readouterr().out == expected + "\n"


def test_the_example_for_vllm_goes_on_from_the_first(tmp_path, tiny_model, tiny_t5):
    """vLLM itself is not at hand: its block is Python, and takes the whole input."""
    _, vllm = blocks(export_run(adapted_run(tmp_path / "a", tiny_model), "embeddings"))
    compile(vllm, "README.md", "exec")
    assert "enable_prompt_embeds=True" in vllm
    assert '{"prompt_embeds": inputs[0]}' in vllm
    assert len(blocks(export_run(adapted_run(tmp_path / "b", tiny_t5), "embeddings"))) == 1
