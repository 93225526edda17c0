"""Every command of the README and of docs/ runs as it stands there; the settings alone are tiny."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from page_options import OPTIONS, with_options
from pages import (
    DRAWINGS,
    ELSEWHERE,
    NOT_RUN,
    PAGES,
    World,
    blocks,
    commands,
    write_files,
)
from toys import ROOT

from mpt import cli
from mpt.commands.train import TRAINING
from mpt.config.yaml_file import find_config, read_yaml
from mpt.data.sources import Source, Tfds
from mpt.loading import located
from mpt.plan.chips import Topology
from mpt.recipes import checks

README, BANK = ROOT / "README.md", ROOT / "docs" / "bank.md"
WITH_COMMANDS = [page for page in PAGES if any(block.is_python or block.is_shell for block in blocks(page))]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    there = World(tmp_path_factory.mktemp("pages"))
    yield there
    there.close()


@pytest.mark.full
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_commands_of_a_page_run(page, world):
    """Behind those of the README and of the bank, whose runs the other pages name."""
    for each in (page,) if page == README else (README, BANK, page):
        world.run(each)


def _make_run(folder: Path) -> None:
    """A run directory, or a prompt of a bank, by names alone: no more is looked at before JAX loads."""
    if folder.parent.name == "prompts":
        folder.parent.mkdir(exist_ok=True)
        folder.with_name(f"{folder.name}.safetensors").touch()
        return
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    (folder / "prompts" / "universal.safetensors").touch()
    (folder / "config.yaml").write_text("out: x\n")


def _made_by(words: list[str]) -> Path | None:
    """The run directory that a command that trains makes, or a prompt of a bank."""
    if words[:2] == ["bank", "add"]:
        return Path(words[words.index("--bank") + 1]) / "added"
    if words[0] not in TRAINING:
        return None
    if "--out" in words:
        return Path(words[words.index("--out") + 1])
    named = words[1] if len(words) > 1 and not words[1].startswith("-") else words[0]
    return Path(read_yaml(find_config(named)).get("out", "runs/x"))


@pytest.mark.parametrize("page", [page for page in PAGES if [*commands(page)]], ids=lambda page: page.name)
def test_every_command_of_a_page_is_understood(page, tmp_path, monkeypatch):
    """Its options are known, and what it names is there; the full set tries what it does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Source, "check_reachable", lambda _: None)
    monkeypatch.setattr(Tfds, "check_reachable", lambda _: None)
    monkeypatch.setattr(located, "check_reachable", lambda _: None)
    monkeypatch.setattr(checks, "check_installed", lambda _: None)
    monkeypatch.setattr(Topology, "check_installed", lambda _: None)
    write_files(tmp_path)
    for words in commands(page):
        # What launch runs is a command of its own here.
        asked = [*words, "--", "pretrain"] if words[0] == "launch" else with_options(words)
        for before, word in pairwise(asked):
            is_run = word.startswith(("runs/", "prompts/", "bucket/"))
            if is_run and before != "--out" and not Path(word).exists():
                _make_run(Path(word))
        assert cli.commands()[asked[0]](asked[1:])
        if made := _made_by(words):
            _make_run(made)


def test_every_block_is_known():
    """A block of a new kind has to be run, or named with the reason why it is not."""
    every = [block for page in PAGES for block in blocks(page)]
    assert len(every) == sum(page.read_text("utf-8").count("\n```") for page in PAGES) / 2
    languages = {"", "bash", "python", "yaml", "{toctree}"}
    assert {block.language for block in every} <= languages
    for start in (*DRAWINGS, *NOT_RUN):
        assert [block for block in every if block.text.startswith(start)], f"no block begins with {start!r}"


def test_shell_blocks_hold_commands_of_known_programs():
    lines = [
        line
        for page in PAGES
        for block in blocks(page)
        if block.is_shell and not block.why_not_run
        for line in re.sub(r"\\\n", "", block.text).splitlines()
    ]
    programs = {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}
    assert programs <= {"mpt", "python", "curl", "echo", "jupyter"}
    named = {words.split()[0] for line in lines for words in re.findall(r"\bmpt ([a-z]+)", line)}
    assert named <= set(cli.commands())
    assert [start for start in ELSEWHERE if not any(start in line for line in lines)] == []
    assert [start for start in OPTIONS if not any(f"mpt {start}" in line for line in lines)] == []


def test_options_go_by_the_longest_beginning():
    assert with_options(["tasks", "check", "a.yaml"]) == ["tasks", "check", "a.yaml"]
    assert with_options(["pretrain", "mpt_source"])[2:] == OPTIONS["pretrain mpt_source"]
    assert with_options(["pretrain", "mine"])[2:] == OPTIONS["pretrain"]
