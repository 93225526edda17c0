"""Banks and runs as models of the Hugging Face hub, of which a small server here stands in for the API."""

from __future__ import annotations

import json
import re

import fsspec
import huggingface_hub
import numpy as np
import pytest
from hub_stand_in import hub
from huggingface_hub import ModelCard, constants
from runs import TASKS, adapted_run, universal_run
from toys import finish, refused, start_mpt, tree

from mpt import cli
from mpt.cards.bank import Bank
from mpt.errors import UserError
from mpt.interop.exporting import export_run
from mpt.loading.hf import load_pretrained
from mpt.prompts.saved import load_prompt, read_from
from mpt.prompts.source import SavedSource
from mpt.recipes.bank import add
from mpt.system.paths import finished_run, run_path


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub of the test's own, for this process and for those that it starts."""
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        # What the client has read from the environment already.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        resolve = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        huggingface_hub.HfFileSystem.clear_instance_cache()
        server.models["owner/prompts"] = {}
        yield server
        huggingface_hub.HfFileSystem.clear_instance_cache()


@pytest.fixture
def run(tmp_path, tiny_model):
    return universal_run(tmp_path / "made", tiny_model)


def upload(server, model: str, folder) -> None:
    server.models[model] = tree(folder)


def test_a_bank_on_the_hub_gives_back_what_it_is_given(server, run):
    bank = Bank("hf://owner/prompts")
    with pytest.raises(UserError, match="hf://owner/prompts: no prompts in it; `mpt bank add RUN_DIR"):
        bank.names()
    names = dict(add(run, bank))
    assert [re.sub("-[0-9a-f]{8}$", "", name) for name in names] == ["universal", *TASKS]
    assert {f"{name}{end}" for name in names for end in (".json", ".md", ".safetensors")} == set(
        server.models["owner/prompts"]
    )
    assert Bank("hf://owner/prompts").names() == sorted(names)
    assert dict(add(run, bank)) == dict.fromkeys(names, False)
    saved, _ = load_prompt(run, "universal")
    for place, name in enumerate([*names][1:]):
        np.testing.assert_array_equal(read_from(bank, name)[0].compose()[0], saved.compose()[place])
    assert f"{bank.added(next(iter(names))):%Y-%m-%d}" == "2026-01-02"


def test_new_tasks_start_from_a_bank_on_the_hub(server, run, pretrained):
    (name, *_) = dict(add(run, Bank("hf://owner/prompts")))
    source = SavedSource(f"hf://owner/prompts/{name}", pretrained)
    prompt, tasks = source.prompt()
    np.testing.assert_array_equal(prompt.u[...], load_prompt(run, "universal")[0].u[...])
    assert tasks == list(TASKS) and source.teachers() is None


def test_new_tasks_start_from_a_run_on_the_hub(server, universal, pretrained):
    upload(server, "owner/run", universal)
    source = SavedSource("hf://owner/run", pretrained)
    prompt, tasks = source.prompt()
    np.testing.assert_array_equal(prompt.u[...], load_prompt(universal, "universal")[0].u[...])
    teachers = source.teachers()
    assert tasks == list(TASKS) and teachers and teachers[1] == list(TASKS)
    fetched = set(tree(finished_run("hf://owner/run")))
    assert "prompts/teachers.safetensors" in fetched and not any("checkpoints" in name for name in fetched)


@pytest.mark.full
def test_the_commands_take_models_of_the_hub(server, universal, adapted, config_file, plain_adapt, tmp_path):
    upload(server, "owner/run", universal)
    upload(server, "owner/adapted", adapted)
    bank = "hf://owner/prompts"
    lines = finish(start_mpt("bank", "add", "hf://owner/run", "--bank", bank)).splitlines()
    assert lines[0].startswith(f"{bank}/tone-") or lines[0].startswith(f"{bank}/universal-")
    assert "tone, colour" in finish(start_mpt("bank", "list", "--bank", bank))
    config, file = config_file(plain_adapt), "prompts/adapted.safetensors"
    runs = [tmp_path / name for name in ("here", "there")]
    assert cli.main(["adapt", config, "--prompt", str(universal), "--out", str(runs[0])]) == 0
    finish(start_mpt("adapt", config, "--prompt", "hf://owner/run", "--out", str(runs[1])))
    assert (runs[0] / file).read_bytes() == (runs[1] / file).read_bytes()
    finish(start_mpt("adapt", config, "--prompt", lines[0], "--out", str(tmp_path / "third")))
    text = tmp_path / "lines.txt"
    text.write_text("we so glad 1\n")
    assert "prediction" in finish(start_mpt("predict", "hf://owner/adapted", "--input", str(text)))


def test_each_mistake_gets_one_line(server, run, tmp_path, capsys, config_file, plain_adapt):
    config = config_file(plain_adapt)
    told = refused(capsys, "adapt", config, "--out", "hf://owner/new")
    assert "hf://owner/new: a run on the hub is read-only; give a folder, and upload it: hf upload" in told
    with pytest.raises(UserError, match="hf://owner/gone: the hub did not return it: "):
        finished_run("hf://owner/gone")
    with pytest.raises(UserError, match=r"hf://owner/gone: .*not found"):
        list(add(run, Bank("hf://owner/gone")))
    with pytest.raises(UserError, match="for a bank, name the prompt too: hf://owner/prompts/NAME"):
        SavedSource("hf://owner/prompts").prompt()
    with pytest.raises(UserError, match="is read-only"):
        run_path("hf://owner/run")


def read(text: bytes | str) -> dict:
    """What the hub reads of a card."""
    return ModelCard(text.decode() if isinstance(text, bytes) else text).data.to_dict()


def test_a_prompts_card_is_a_model_card(adapted, tiny_model):
    text = (adapted / "prompts" / "adapted.md").read_text()
    card = load_prompt(adapted, "adapted")[1]
    data = read(text)
    assert (data["library_name"], data["pipeline_tag"]) == ("mpt", "text-classification")
    assert data["metrics"] == ["accuracy"] and "base_model" not in data  # which is a folder here
    (index,) = data["model-index"]
    (result,) = index["results"]
    assert index["name"] == card.title
    assert result["task"] == {"type": "text-classification"}
    assert result["dataset"] == {"name": "mood", "type": "mood", "split": "test"}
    (metric,) = result["metrics"]
    assert metric == {"type": "accuracy", "value": round(card.metrics["test accuracy"], 4)}
    assert str(tiny_model.parent) not in text


def test_a_model_card_names_the_hubs_model_and_data_sets(adapted):
    from dataclasses import replace

    card = load_prompt(adapted, "adapted")[1]
    template = card.templates["mood"]
    free = template | {"verbalizer": None, "metrics": ["rouge1"]}
    several = replace(
        card,
        backbone="gemma3-270m",
        prompts=["mood", "sum"],
        templates={"mood": template, "sum": free},
        datasets={"mood": "owner/moods"},
        metrics={"mood test accuracy": 0.75, "sum validation rouge1": 0.5, "training seconds": 9.0},
    )
    data = read(several.model_card())
    assert data["base_model"] == "google/gemma-3-270m"
    assert (data["pipeline_tag"], data["datasets"]) == ("text-generation", ["owner/moods"])
    results = data["model-index"][0]["results"]
    assert [each["metrics"][0]["value"] for each in results] == [0.75, 0.5]
    assert [each["dataset"]["type"] for each in results] == ["owner/moods", "sum"]
    assert [each["task"]["type"] for each in results] == ["text-classification", "text-generation"]
    alone = several.alone("sum")
    assert (alone.metrics, alone.datasets, alone.prompts) == ({"validation rouge1": 0.5}, {}, ["sum"])


def test_a_card_without_figures_and_one_of_before_are_model_cards(run, tmp_path):
    card = load_prompt(run, "universal")[1]
    assert "model-index" not in read(card.model_card())
    file = run / "prompts" / "universal.json"
    older = json.loads(file.read_text())
    del older["datasets"]
    file.write_text(json.dumps(older))
    assert load_prompt(run, "universal")[1] == card


@pytest.mark.parametrize("make", [universal_run, adapted_run])
def test_an_export_for_peft_has_model_cards(make, tmp_path, tiny_model):
    out = export_run(make(tmp_path, tiny_model), "peft")
    folders = sorted(path.parent for path in out.glob("*/adapter_config.json"))
    assert len(folders) >= 2
    for folder in (out, *folders):
        data = read((folder / "README.md").read_bytes())
        assert (data["library_name"], data["pipeline_tag"]) == ("peft", "text-classification")
    cards = [(folder / "README.md").read_text() for folder in folders if folder.name != "multitask"]
    for text, folder in zip(cards, folders):
        assert f"Prompts: {folder.name.partition('-')[2]}\n" in text


def test_a_saved_run_is_a_model_of_the_hub(server, adapted, tmp_path, tiny_model):
    import mpt

    saved = mpt.load(adapted).save(tmp_path / "saved")
    assert read((saved / "README.md").read_bytes())["library_name"] == "mpt"
    upload(server, "owner/saved", saved)
    there = mpt.load("hf://owner/saved")
    np.testing.assert_array_equal(there.vectors, mpt.load(adapted).vectors)
    assert load_pretrained(str(tiny_model)).hash == there.card.backbone_hash


def test_the_hubs_file_system_is_the_one_that_fsspec_knows():
    assert fsspec.get_filesystem_class("hf") is huggingface_hub.HfFileSystem
