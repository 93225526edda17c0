"""A bank's prompts are starts of adaptations, and search ranks them."""

from __future__ import annotations

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from runs import LENGTH, WIDTH, random, run_of
from toys import refused

from mpt import cli
from mpt.cards.bank import Bank
from mpt.catalog.library import find_task
from mpt.config.yaml_file import from_plain
from mpt.data.stored import stored_rows
from mpt.data.task import Task
from mpt.inference.evaluate import choice_probabilities
from mpt.insight.transfer import ABREAST, trials
from mpt.methods import AdaptConfig
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt, read_from
from mpt.recipes.adapt import adapt
from mpt.recipes.bank import add
from mpt.recipes.bank_search import search


@pytest.fixture(scope="module")
def bank(tmp_path_factory, universal) -> tuple[str, dict[str, str]]:
    """A bank of a pretraining's prompts: its folder, and their names by what they are of."""
    folder = str(tmp_path_factory.mktemp("bank"))
    return folder, {name.rsplit("-", 1)[0]: name for name, _ in add(universal, Bank(folder))}


@pytest.fixture
def adapted_from(tmp_path, plain_adapt, pretrained):
    """Adapts, and reads the prompts that come out."""

    def run(prompt: str, steps: int, **keys):
        train = plain_adapt["train"] | {"steps": steps}
        out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        own = {"out": str(out), "prompt": prompt, "seeds": [0, 1], "train": train, "validate_every": 0}
        adapt(from_plain(AdaptConfig, plain_adapt | own | keys, "test"), pretrained)
        return load_prompt(out, "adapted")[0].compose()

    return run


def test_an_adaptation_starts_at_a_plain_prompt(bank, adapted_from):
    folder, names = bank
    entry, _ = read_from(Bank(folder), names["tone"])
    for vectors in adapted_from(f"{folder}/{names['tone']}", steps=0):
        np.testing.assert_array_equal(vectors, entry.compose()[0])


def test_a_universal_prompt_of_a_bank_is_that_of_its_run(bank, adapted_from, universal):
    folder, names = bank
    found = adapted_from(f"{folder}/{names['universal']}", steps=2)
    np.testing.assert_array_equal(found, adapted_from(str(universal), steps=2))


def test_what_cannot_start_gets_one_line(bank, config_file, plain_adapt, tmp_path, capsys, toy, tiny_t5):
    folder, names = bank
    plain = f"{folder}/{names['tone']}"

    def adapting(prompt: str, **keys) -> str:
        own = {"out": str(tmp_path / "-".join(["run", *keys])), "prompt": prompt}
        return refused(capsys, "adapt", config_file(plain_adapt | own | keys))

    assert "freeze_shared: only a universal prompt" in adapting(plain, freeze_shared=True)
    assert f"no prompt 'tone' in it; did you mean '{names['tone']}'" in adapting(f"{folder}/tone")
    assert "method spot needs source prompts" in adapting(plain, method="spot")
    assert "continual: prompt: " in refused(
        capsys, "continual", "--model.name", plain_adapt["model"]["name"], "--tasks", toy["tone"],
        toy["mood"], "--prompt", plain, "--out", str(tmp_path / "c"),
    )  # fmt: skip


def test_a_dry_run_knows_a_plain_prompts_length(bank, config_file, plain_adapt, tmp_path, capsys):
    folder, names = bank
    config = config_file(plain_adapt | {"out": str(tmp_path / "o"), "prompt": f"{folder}/{names['tone']}"})
    assert cli.main(["adapt", config, "--dry-run"]) == 0
    assert f"{LENGTH * WIDTH:,}" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, ABREAST + 1])
def test_trials_side_by_side_are_those_of_each_alone(pretrained, toy, count):
    task = find_task(toy["mood"])
    rows = list(stored_rows(task, "train", pretrained.tokenizer, 24, "decoder"))[:5]
    prompts = [np.asarray(random(seed, 3, WIDTH)) for seed in range(count)]
    for vectors, found in zip(prompts, trials(pretrained.backbone, task, rows, prompts), strict=True):
        alone = choice_probabilities(
            Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(vectors[None]))), rows
        )
        labels = [row.label for row in rows]
        assert found.loss == pytest.approx(-np.log(alone[range(5), labels]).mean(), rel=1e-4)
        assert found.accuracy == np.mean(alone.argmax(axis=1) == labels)


def test_a_trial_of_a_text_is_its_loss_per_token(pretrained, toy):
    """A class word that is written as a text costs the same, but that it must end."""
    task = find_task(toy["mood"])
    texts: Task = replace(task, verbalizer={})
    rows = list(stored_rows(task, "train", pretrained.tokenizer, 24, "decoder"))[:5]
    (found,) = trials(pretrained.backbone, texts, rows, [np.asarray(random(0, 3, WIDTH))])
    assert found.accuracy is None and 0 < found.loss < 20


def test_search_ranks_and_says_how_to_start(bank, toy, universal, tmp_path, tiny_model, capsys):
    folder, names = bank
    found = search(Bank(folder), toy["mood"], shots=4, steps=2, max_length=24)
    assert {each.entry.name for each in found.candidates} == set(names.values())
    assert [each.rank for each in found.candidates] == [1, 2, 3]
    assert found.rows == 8 and found.instruction
    command = ["bank", "search", toy["mood"], "--bank", folder, "--shots", "4", "--steps", "2"]
    assert cli.main([*command, "--max-length", "24"]) == 0
    best = found.candidates[0].entry.name
    told = capsys.readouterr().out
    assert f"mpt adapt few_shot --prompt {folder}/{best} --task {toy['mood']}" in told
    assert f"--model.name {tiny_model} --out runs/mood" in told


def test_prompts_of_other_models_are_left_out(bank, toy, universal, tmp_path, tiny_t5, capsys):
    folder = str(tmp_path / "bank")
    made = run_of(tmp_path / "t5", tiny_t5, SoftPrompt(random(0, 1, LENGTH, WIDTH)), "tone")
    ((other, _),) = add(made, Bank(folder))
    list(add(universal, Bank(folder)))
    assert "choose one with --model" in refused(capsys, "bank", "search", toy["mood"], "--bank", folder)
    tiny = json.loads((next((tmp_path / "bank").glob("universal-*.json"))).read_text())["backbone"]
    found = search(Bank(folder), toy["mood"], tiny, shots=2, steps=1, max_length=24)
    assert len(found.candidates) == 3
    assert f"left out {other}: trained on {tiny_t5}" in capsys.readouterr().err
