"""A bank keeps what it is given, whole, under names that never stand for two prompts."""

from __future__ import annotations

import re

import fsspec
import numpy as np
import pytest
from runs import TASKS, random, run_of, universal_run
from toys import refused, tree, write_task

from mpt import cli
from mpt.cards.bank import Bank
from mpt.cards.files import length
from mpt.errors import UserError
from mpt.inference.predict import evaluate
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.saved import load_prompt, read_from
from mpt.prompts.source import saved_start
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.recipes.bank import add, entries
from mpt.recipes.bank_list import print_list
from mpt.recipes.bank_search import search
from mpt.rundir.found import check_start


@pytest.fixture
def run(tmp_path, tiny_model):
    return universal_run(tmp_path / "made", tiny_model)


@pytest.fixture(params=["here", "remote"])
def bank(request, tmp_path):
    path = str(tmp_path / "bank") if request.param == "here" else f"memory://{tmp_path.name}/bank"
    yield Bank(path)
    if request.param == "remote":
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_what_is_added_is_read_back(bank, run):
    names = dict(add(run, bank))
    assert [re.sub("-[0-9a-f]{8}$", "", name) for name in names] == ["universal", *TASKS]
    assert all(names.values()) and sorted(names) == bank.names()
    saved, _ = load_prompt(run, "universal")
    universal, *plain = (read_from(bank, name) for name in names)
    assert isinstance(universal[0], MultitaskPrompt) and universal[1].prompts == list(TASKS)
    np.testing.assert_array_equal(universal[0].u[...], saved.u[...])
    for place, (prompt, card) in enumerate(plain):
        assert isinstance(prompt, SoftPrompt) and card.kind == "soft"
        assert [card.prompts, [*card.templates]] == [[TASKS[place]]] * 2
        np.testing.assert_array_equal(prompt.compose()[0], saved.compose()[place])
    assert bank.added(bank.names()[0])


def test_a_prefix_in_every_layer_is_added_whole(tmp_path, tiny_model, capsys):
    prefix = UniversalPrefix(*(random(seed, 1, 2, 3, 2, 8) for seed in (0, 1)), random(2, 2, 0, 32))
    bank, made = Bank(str(tmp_path)), run_of(tmp_path / "made", tiny_model, prefix, "tone")
    ((name, _),) = add(made, bank)
    assert name.startswith("tone-")
    np.testing.assert_array_equal(read_from(bank, name)[0].keys[...], prefix.keys[...])
    print_list(bank)
    assert "3 a layer" in capsys.readouterr().out
    with pytest.raises(UserError, match=f"start from one as it is: --prompt {tmp_path}/{name}$"):
        search(bank, str(write_task(tmp_path, "tone")), str(tiny_model))


def test_the_bank_that_comes_with_mpt_is_read_and_not_written(run, capsys):
    bank = Bank("packaged/")
    for name in bank.names():
        prompt, card = read_from(bank, name)
        assert isinstance(prompt, UniversalPrefix) and card.backbone == name and len(card.prompts) > 20
        assert check_start(f"packaged/{name}") is None and saved_start(f"packaged/{name}")[1] == card
    assert cli.main(["bank", "list"]) in (0, None) and "smollm2-135m" in capsys.readouterr().out
    with pytest.raises(UserError, match="comes with mpt and is read-only"):
        list(add(run, bank))


def test_the_same_is_there_once_and_other_content_beside_it(bank, run, tmp_path, tiny_model):
    first = dict(add(run, bank))
    assert dict(add(run, bank)) == dict.fromkeys(first, False)
    other = run_of(tmp_path / "other", tiny_model, SoftPrompt(random(7, 1, 4, 32)), "tone")
    ((name, new),) = add(other, bank)
    assert new and name.startswith("tone-") and name not in first
    assert len(bank.names()) == 4


def test_a_pretraining_gives_its_teachers(universal, tmp_path):
    bank = Bank(str(tmp_path))
    names = [name for name, _ in add(universal, bank)]
    teachers, _ = load_prompt(universal, "teachers")
    for place, name in enumerate(names[1:]):
        prompt, card = read_from(bank, name)
        np.testing.assert_array_equal(prompt.compose()[0], teachers.compose()[place])
        assert card.rows.keys() == {TASKS[place]}


def test_an_adaptation_gives_its_first_seed_with_its_own_figure(adapted, tmp_path):
    bank = Bank(str(tmp_path))
    ((name, _),) = add(adapted, bank)
    prompt, card = read_from(bank, name)
    np.testing.assert_array_equal(prompt.compose()[0], load_prompt(adapted, "adapted")[0].compose()[0])
    assert card.seeds == [0] and len(prompt.compose()) == 1
    assert card.metrics == {"test accuracy": evaluate(adapted, "", "test", 16, 0)["accuracy"]}


def test_a_killed_add_leaves_no_prompt(run, tmp_path, monkeypatch):
    bank = Bank(str(tmp_path / "bank"))
    write = Bank._write

    def die(self, file, content):
        if file.endswith(".safetensors"):
            raise KeyboardInterrupt
        write(self, file, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Bank, "_write", die)
        list(add(run, bank))
    with pytest.raises(UserError, match="no prompts in it"):
        bank.names()
    assert all(dict(add(run, bank)).values())


def test_a_damaged_prompt_is_told_of_and_left_out(run, tmp_path, capsys):
    bank = Bank(str(tmp_path / "bank"))
    names = [name for name, _ in add(run, bank)]
    (tmp_path / "bank" / f"{names[0]}.json").write_text('{"kind": "multi')
    assert [entry.name for entry in entries(bank)] == sorted(names[1:])
    assert f"{names[0]}: not a whole prompt of mpt" in capsys.readouterr().err


@pytest.mark.parametrize("words", [0, 3])
def test_the_length_of_a_prompt_is_read_without_its_module(words, tmp_path, tiny_model):
    """So that a listing does not wait for JAX."""
    prompts = [
        SoftPrompt(random(0, 1, 5, 32)),
        MultitaskPrompt(
            random(0, 1, 5, 32), random(1, 1, 5, 2), random(2, 1, 2, 32), random(3, 1, words, 32)
        ),
        UniversalPrefix(*(random(seed, 1, 2, 5, 2, 8) for seed in (0, 1)), random(2, 1, words, 32)),
    ]
    bank = Bank(str(tmp_path / "bank"))
    for number, prompt in enumerate(prompts):
        list(add(run_of(tmp_path / f"{number}", tiny_model, prompt, "tone"), bank))
    for name in bank.names():
        tensors, card = bank.read(name)
        assert length(tensors, card.kind) == read_from(bank, name)[0].extent(1)[1]


def test_list_shows_each_prompt(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    folder = str(tmp_path / "bank")
    assert cli.main(["bank", "add", str(run), "--bank", folder]) == 0
    names = [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert cli.main(["bank", "add", str(run), "--bank", folder]) == 0
    assert capsys.readouterr().out.count("(there already)") == 3
    assert cli.main(["bank", "list", "--bank", folder]) == 0
    told = capsys.readouterr().out
    assert len(names) == 3 and all(text in told for text in (*names, "tone, colour", "Made by hand"))


def test_without_a_name_the_folder_bank_is_listed_beside_the_one_that_comes_with_mpt(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bank", "list"]) == 0
    assert re.findall(r"^(\w+): *$", capsys.readouterr().out, re.M) == ["packaged"]
    assert cli.main(["bank", "add", str(run)]) == 0
    name = capsys.readouterr().out.splitlines()[0].removeprefix("bank/")
    assert cli.main(["bank", "list"]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^(\w+): *$", told, re.M) == ["bank", "packaged"] and name in told


def test_what_all_prompts_share_stands_below_their_list(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    bank = Bank(str(tmp_path / "bank"))
    names = [name for name, _ in add(run, bank)]
    print_list(bank)
    told = capsys.readouterr().out
    assert "all: backbone " in told and ", vectors " in told
    assert "─" in told  # a table, no list
    for name in names[1:]:
        (tmp_path / "bank" / f"{name}.safetensors").unlink()
    print_list(bank)
    assert "all: " not in capsys.readouterr().out


def test_each_mistake_gets_one_line(run, tmp_path, tiny_t5, capsys):
    empty, folder = str(tmp_path / "none"), str(tmp_path / "bank")
    makes = f"no such folder; `mpt bank add RUN_DIR --bank {empty}` makes it"
    assert makes in refused(capsys, "bank", "list", "--bank", empty)
    assert makes in refused(capsys, "bank", "search", "sarcasm", "--bank", empty)
    none = str(tmp_path)
    assert "no prompts in it; `mpt bank add RUN_DIR" in refused(capsys, "bank", "list", "--bank", none)
    assert "no prompts in it" in refused(capsys, "bank", "search", "sarcasm", "--bank", none)
    assert "no such folder" in refused(capsys, "bank", "add", empty, "--bank", folder)
    assert "name at least one" in refused(capsys, "bank", "add", "--bank", folder)
    assert "nowhere://a: cannot be used: " in refused(capsys, "bank", "list", "--bank", "nowhere://a")
    (tmp_path / "file").write_text("")
    assert "file: " in refused(capsys, "bank", "add", str(run), "--bank", str(tmp_path / "file"))
    halves = universal_run(tmp_path / "t5", tiny_t5, decoder_prompt=2)
    before = tree(tmp_path)
    assert "go to the decoder" in refused(capsys, "bank", "add", str(halves), "--bank", folder)
    assert tree(tmp_path) == before
    names = [name for name, _ in add(run, Bank(folder))]
    with pytest.raises(UserError, match=f"no prompt 'tone' in it; did you mean '{names[1]}'"):
        read_from(Bank(folder), "tone")
