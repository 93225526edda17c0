"""Every table of the commands fits the terminal, without a broken word; what cannot fit becomes a list."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from golden import normal
from rich.console import Console
from rich.table import Column, Table

from mpt.cards.bank import Bank
from mpt.cards.card import Card
from mpt.catalog.library import packaged_tasks
from mpt.comparison import tables
from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import cells
from mpt.comparison.estimates import Comparison
from mpt.config.options import MeshConfig, ModelConfig, TrainConfig
from mpt.continual_learning import results as continual
from mpt.insight import summary
from mpt.insight.findings import Findings, Study, Subject, Transfer, Words
from mpt.insight.positions import Ablation
from mpt.insight.similarity import Similarity
from mpt.insight.transfer import Trial
from mpt.plan import tables as plan_tables
from mpt.plan.chips import Chip
from mpt.plan.job import Estimate, Job
from mpt.plan.plans import Plan, StagePlan
from mpt.plan.search import Try
from mpt.prompts import SoftPrompt
from mpt.prompts.saved import files_of
from mpt.recipes import bank, bank_list, bank_search, check_task, show
from mpt.recipes.adapt import Result
from mpt.recipes.bank_search import Candidate, Ranking
from mpt.render.console import FOLDED, PathText, print_table

LONG = "aspect_of_restaurants_in_many_towns"  # a name that no column may break
NAMES = ("movies", LONG, f"{LONG}-2")


def prompt_of(name: str) -> bank.Entry:
    card = Card(
        kind="soft",
        method=f"Prompt with a class head for {name}, started from the task's instruction",
        prompts=[name],
        templates={},
        rows={name: 12345},
        backbone=f"/home/me/models/{LONG}",
        backbone_hash="",
        tokenizer_hash="",
        max_length=96,
        seeds=[0],
        metrics={"test accuracy": 0.8125},
        software={},
    )
    return bank.Entry(f"{name}-81e0c2d7", SoftPrompt(jnp.asarray(normal(0, 1, 16, 8))), card)


def of_a_comparison(targets: tuple[str, ...]) -> Table:
    config = CompareConfig(targets=targets)
    found = {
        cell: Result(
            cell.target, "macro_f1", [0.5, 1.0, 0.8], 5000, 134_515_008, 120, 1234.5, [(0, 0.5), (12, 0.8)],
            [[0.2, 0.8], [1.0, 1.0], [0.8, 0.8]],
        )
        for cell in cells(config)
    }  # fmt: skip
    comparison = Comparison.of(config, 10**8, found)
    return tables.printed(
        tables.table(comparison, 16, short=True), "k = 16", tables.caption(comparison, 12.0)
    )


def of_a_sequence() -> Table:
    outcome = continual.Outcome([0.5] * 3, [[0.5] * 3] * 3, [0.5] * 3, [12_345_678] * 3, 12345.0)
    methods = dict.fromkeys(continual.TITLES, outcome)
    return continual.table(continual.Results([*NAMES], ["accuracy"] * 3, [50] * 3, [0.5] * 3, methods))


def findings() -> Findings:
    vectors = np.asarray(normal(0, 16, 8))
    subjects = [Subject(name, name, "adapted", vectors) for name in NAMES]
    words = Words([["nearest", "second"]] * 16, [0.5] * 16, [["read"]] * 16)
    ablation = Ablation(0.5, np.arange(16.0), np.ones(16))
    attention = {"labels": np.ones((2, 16)), "the text": np.ones((2, 16))}
    studies = [Study(i, "64 validation rows", ablation, attention) for i in range(3)]
    transfer = Transfer([f"{name} accuracy" for name in NAMES], np.eye(3))
    alike = Similarity(np.eye(3), np.ones((2, 4)), np.ones((3, 2)), 1.0)
    return Findings("runs/a", "tiny", subjects, [words] * 3, np.ones(9), alike, {}, {}, studies, transfer)


def plan() -> Plan:
    chip = Chip(16e9, 197e12, 8e11, 1.6e11)
    job = Job(
        ModelConfig(), TrainConfig(batch_size=4096, microbatches=128), 6, 100, 4, 1, True, 256, 8,
        MeshConfig(1024, 16, 16), chip,
    )  # fmt: skip
    found = Estimate(1e9, 1e9, 1e9, 1e9, 1e15, 1e12, {"all-reduce": 1e9}, 1.5, "cycles")
    tried = [Try(job, found), Try(job, replace(found, memory=9e10))]
    tried += [Try(job, replace(found, fault="the compiler says that there is not enough memory"))]
    stages = [StagePlan(name, 123_456_789, tried[0]) for name in (LONG, "universal")]
    return Plan(LONG, 10**9, "v5p:16x16x16", 4096, chip, LONG, tried, stages)


def everything(monkeypatch, folder: Path) -> Iterator[Table]:
    """Each table of a command, as it is given to ``print_table``."""
    given: list[Table] = []
    for module in (bank_list, bank_search, show):
        monkeypatch.setattr(module, "print_table", lambda _, table: given.append(table))
    kept = Bank(str(folder))
    for name in NAMES:
        entry = prompt_of(name)
        kept.add(entry.name, files_of(entry.prompt, entry.card))
    bank_list.print_list(kept)
    trial = Trial(0.5, 0.75)
    candidates = [Candidate(prompt_of(name), 0.5, trial, i) for i, name in enumerate(NAMES, 1)]
    task = replace(packaged_tasks()["movies"], name=LONG)
    bank_search.print_found(kept, LONG, Ranking(task, candidates, trial, 32))
    show.list_tasks()
    yield from given
    survey = check_task.Survey(123_456, Counter(dict.fromkeys(NAMES, 10000)), Counter(), Counter(), (9, "x"))
    yield check_task._table({"train": survey, "validation": survey})
    for targets in (NAMES[:1], NAMES[:2], NAMES, tuple(map(str, range(30)))):
        yield of_a_comparison(targets)
    yield of_a_sequence()
    found = findings()
    yield summary._prompts(found)
    yield summary._studies(found)
    yield summary._transfer(found, found.transfer)
    made = plan()
    yield plan_tables._tried(made)
    yield plan_tables._best(made.tried[0])
    yield plan_tables._whole(made)


def printed(table: Table, width: int) -> str:
    screen = io.StringIO()
    print_table(Console(file=screen, width=width, markup=False, highlight=False), table)
    return screen.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_table_fits_and_no_word_of_it_is_broken(width, monkeypatch, tmp_path):
    tables = [*everything(monkeypatch, tmp_path)]
    assert len(tables) == 16
    for table in tables:
        text = printed(table, width)
        assert max(map(len, text.splitlines())) <= width, text
        assert "…" not in text
        for column in table.columns:
            for cell in column.cells:
                for word in str(cell).split():
                    for name in re.findall("[^/]+", word) if isinstance(cell, PathText) else [word]:
                        assert name in text or len(name) > FOLDED, f"{name!r} is broken in\n{text}"


@pytest.mark.parametrize("width", [28, 40, 80])
def test_a_path_breaks_between_its_names(width):
    names = ["community-datasets", "yahoo_answers_topics", "labeled_final_tokenized"]
    table = Table("task", "data")
    table.add_row("a", PathText(f"hub data set {'/'.join(names)}"))
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert all(name in text for name in names)


def test_a_list_has_each_row_with_its_headings():
    table = Table(
        "prompt", "a long\nhead-\ning", Column("", justify="right"), title="What there is", caption="in all"
    )
    table.add_row("x" * 30, "y" * 30, "1")
    table.add_row("name", "", "z" * 30)
    first = ["x" * 30, "  a long heading:", "    " + "y" * 30, "  1"]
    expected = ["What there is", "", *first, "", "name", "  " + "z" * 30, "", "in all"]
    assert printed(table, 40).split("\n")[: len(expected)] == expected
    assert "─" in printed(table, 120)


def test_titles_and_captions_stand_on_the_left():
    table = Table("a", "b", title="title", caption="caption")
    table.add_row("x" * 20, "y" * 20)
    lines = printed(table, 80).splitlines()
    assert lines[0].rstrip() == "title" and lines[-1].rstrip() == "caption"


def test_lines_that_say_the_same_are_one():
    found = findings()
    lines = [*summary._transfer(found, replace_scores(found, np.ones((3, 3)))).columns[0].cells]
    assert [str(line) for line in lines] == ["; ".join(NAMES)]
    assert len([*summary._transfer(found, found.transfer).columns[0].cells]) == 3


def replace_scores(found: Findings, scores: np.ndarray) -> Transfer:
    assert found.transfer
    return found.transfer._replace(scores=scores)


def test_tasks_that_work_at_once_come_first(capsys):
    show.list_tasks()
    text = capsys.readouterr().out
    assert text.startswith("Available at once")
    assert text.index(" movies ") < text.index("Downloaded from the data") < text.index(" glue_sst2 ")
