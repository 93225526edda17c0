"""Exported prompts do in peft what they do here: the same logits, and the same texts token for token."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import FOLDER, kept, tiny
from golden.inputs import EXPORT_STOP, EXPORTED, MOST
from runs import adapted_run, universal_run
from safetensors.numpy import load_file

from mpt.inference.generate import generate
from mpt.interop.exporting import export_run
from mpt.interop.peft_folder import CONFIG, VECTORS
from mpt.loading.hf import load_pretrained
from mpt.prompts.saved import load_prompt

FAMILIES = ["llama", "gemma3_text", "gpt2", "t5-1.1", "umt5"]
RUNS = {"universal": universal_run, "adapted": adapted_run}


@pytest.fixture(params=FAMILIES)
def model(request, tmp_path) -> tuple[str, Path]:
    return request.param, tiny.save(request.param, tmp_path / "model")


@pytest.mark.parametrize("kind", RUNS)
def test_exported_folders_are_those_that_peft_has_read(kind, model, tmp_path):
    family, folder = model
    layout = "decoder" if family in tiny.DECODERS else "encoder-decoder"
    found = export_run(RUNS[kind](tmp_path / kind, folder), "peft")
    wanted = FOLDER / "exported" / layout / kind
    names = {path.name for path in wanted.iterdir()}
    assert {path.name for path in found.iterdir()} == names | {"README.md"}
    for name in names:
        config, read = (json.loads((path / name / CONFIG).read_text()) for path in (found, wanted))
        assert config.pop("base_model_name_or_path") == folder.name
        assert config | {"base_model_name_or_path": "model"} == read
        ours, theirs = (load_file(path / name / VECTORS) for path in (found, wanted))
        assert ours.keys() == theirs.keys()
        for tensor, value in ours.items():
            np.testing.assert_array_equal(value, theirs[tensor])


def test_prompts_do_here_what_they_do_in_peft(model, compare, tmp_path):
    family, folder = model
    runs = {kind: make(tmp_path / kind, folder) for kind, make in RUNS.items()}
    prompts = [load_prompt(run, kind)[0].compose() for kind, run in runs.items()]
    found, theirs = answers(folder, jnp.concatenate(prompts)), kept("prompted_by_peft", family)
    names = [("universal/0-tone", "universal/multitask/0"), ("universal/1-colour", "universal/multitask/1")]
    names += [("adapted/0-tone",), ("adapted/1-tone",)]
    for (logits, texts), adapters in zip(found, names, strict=True):
        for adapter in adapters:
            compare(family, "exported logits", logits, theirs[f"{adapter}/logits"])
            assert texts == [theirs[f"{adapter}/{i}"].tolist() for i in range(len(texts))]


def answers(folder: Path, prompts: jax.Array) -> list[tuple[np.ndarray, list[list[int]]]]:
    """Behind each prompt, the logits at all rows' targets, and the texts written for the rows."""
    backbone, count, size = load_pretrained(str(folder)).backbone, len(prompts), len(EXPORTED)
    index = [j for j in range(count) for _ in EXPORTED]
    batch = tiny.collate(EXPORTED * count, index, backbone.layout)
    logits = jax.jit(lambda b, p: b(batch, p).logits)(backbone, prompts)[batch.labelled]
    bare = [row._replace(targets=[0]) for row in EXPORTED * count]
    batch = tiny.collate(bare, index, backbone.layout)
    texts = generate(backbone, batch, prompts, max_new_tokens=MOST, stop=EXPORT_STOP)
    return [(logits, texts[size * j :][:size]) for j, logits in enumerate(np.split(logits, count))]
