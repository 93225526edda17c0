"""Baselines as entries of a comparison, and beside what an adaptation gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from toys import refused, toy_rows, write_task

from mpt import cli
from mpt.adaptation import baseline
from mpt.adaptation.result import read_results
from mpt.baselines import linear_probe
from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import cells
from mpt.config.yaml_file import from_plain
from mpt.inference.answers import kept_answers
from mpt.methods import AdaptConfig
from mpt.recipes import adapt as recipe

NOT_TRAINED = "no step was trained: this is the score of what the prompt started from"


@pytest.fixture(autouse=True)
def few_choices(monkeypatch):
    """A probe tries few strengths, to be fast."""
    monkeypatch.setattr(linear_probe, "STRENGTHS", linear_probe.STRENGTHS[:2])


@pytest.fixture
def config(plain_adapt, tmp_path, toy) -> AdaptConfig:
    """An adaptation without a step, whose prompt knows nothing."""
    plain = plain_adapt | {"out": str(tmp_path / "run"), "task": toy["tone"], "validate_every": 0, "shots": 2}
    plain |= {"train": {"steps": 0, "batch_size": 8}, "seeds": [0, 1]}
    return from_plain(AdaptConfig, plain, "test")


@pytest.fixture
def free(tmp_path) -> str:
    """A task of free text, whose input says the answer."""
    rows = [{"text": row["text"], "label": row["text"]} for row in toy_rows("mood", 60)]
    return str(write_task(tmp_path, "free", rows, verbalizer={}, metric="exact_match"))


def test_largest_class_is_scored_on_the_rows_of_an_adaptation(config, pretrained, tmp_path):
    result = recipe.adapt(replace(config, baseline="largest class"), pretrained)
    (answers,) = kept_answers(tmp_path / "run").values()
    prompt = recipe.adapt(replace(config, out=str(tmp_path / "prompt")), pretrained)
    (of_prompt,) = kept_answers(tmp_path / "prompt").values()
    assert [row.input for row in answers[0]] == [row.input for row in of_prompt[0]]
    assert result.scores == [
        np.mean([row.prediction == row.targets[0] for row in answers[seed]]) for seed in (0, 1)
    ]
    assert len({row.prediction for row in answers[0]}) == 1
    assert (result.rows, result.steps, result.parameters) == (prompt.rows, 0, 0)
    assert [len(part) for part in result.parts] == [len(part) for part in prompt.parts]
    assert not (tmp_path / "run" / "prompts").exists()
    assert "baseline largest class" in (tmp_path / "run" / "report.html").read_text()


def test_a_line_at_the_end_tells_what_baselines_have(config, pretrained, tmp_path, monkeypatch):
    result = recipe.adapt(replace(config, baselines=True), pretrained)
    untrained, line, better = result.remarks
    assert untrained == NOT_TRAINED
    assert line.startswith(f"On the same rows: largest class {100 * result.baselines['largest class']:.1f}, ")
    assert line.endswith(f" %; this prompt {100 * np.mean(result.scores):.1f} %.")
    others = ["largest class", "counting words", "linear probe", "in-context examples"]
    assert list(result.baselines) == others

    def by_itself(name, **change):
        of = {"method": "examples"} if name == others[-1] else {"baseline": name}
        return replace(config, **of, **change)

    for name, score in result.baselines.items():
        alone = recipe.adapt(by_itself(name, out=str(tmp_path / name)), pretrained)
        assert score == pytest.approx(np.mean(alone.scores))
    # On validation rows: the best baseline, scored there by a run of its own, less the prompt.
    leads = {}
    for name in ("", *result.baselines):
        there = by_itself(name, scored="validation", test_rows=200, out=str(tmp_path / f"v{name}"))
        found = recipe.adapt(there, pretrained)
        leads[name] = np.mean(found.scores)
    best = max(result.baselines, key=leads.__getitem__)
    below = f"{100 * (leads[best] - leads['']):.1f} points below {best} ("
    assert better.startswith(f"On {found.rows} validation rows, this prompt is {below}")
    page = (tmp_path / "run" / "report.html").read_text()
    assert line in page and better in page
    assert read_results(tmp_path / "run") == [result]


def test_examples_that_would_read_too_much_are_left_out_with_a_word(config, pretrained, monkeypatch):
    monkeypatch.setattr(baseline, "MOST_READ", 100)
    result = recipe.adapt(replace(config, baselines=True), pretrained)
    assert list(result.baselines) == ["largest class", "counting words", "linear probe"]
    assert any("left out" in remark and "--method examples" in remark for remark in result.remarks)


def test_validation_rows_that_are_scored_are_asked_once(config, pretrained):
    result = recipe.adapt(replace(config, baselines=True, scored="validation"), pretrained)
    assert f"On {result.rows} validation rows, " in result.remarks[-1]


def test_without_validation_rows_nothing_is_called_better(config, pretrained, tmp_path):
    rows = [json.dumps(row) + "\n" for row in toy_rows("tone", 40)]
    for split, lines in (("train", rows[:20]), ("test", rows[20:])):
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    source = {"train": "train.jsonl", "test": "test.jsonl"}
    task = write_task(tmp_path, "tone", source=source)
    result = recipe.adapt(replace(config, baselines=True, task=str(task)), pretrained)
    assert len(result.remarks) == 2


@pytest.mark.parametrize("change", [{"baselines": False}, {"baselines": True, "free": True}])
def test_no_line_where_it_is_not_wanted_or_not_of_use(config, pretrained, free, change):
    task = free if change.pop("free", False) else config.task
    result = recipe.adapt(replace(config, task=task, seeds=(0,), test_rows=2, **change), pretrained)
    assert (result.baselines, result.remarks) == ({}, [NOT_TRAINED])


def test_the_option_may_differ_when_a_run_is_read_back(config, pretrained):
    first = recipe.adapt(config, pretrained)
    assert recipe.adapt(replace(config, baselines=True), pretrained) == first


def test_a_baseline_that_does_not_apply_says_so(free, toy, capsys):
    error = refused(capsys, "adapt", "--task", free, "--baseline", "counting words")
    assert (
        error == "mpt: adapt: baseline: 'counting words' is for class words, and task free is of free text\n"
    )
    error = refused(capsys, "adapt", "--task", toy["mood"], "--baseline", "copy the input")
    assert "'copy the input' is for free text, and task mood is of class words" in error


def test_baselines_are_entries_of_a_comparison(compare_file, tmp_path, toy, free, capsys):
    out, methods = tmp_path / "run", ["hard prompt", "largest class", "counting words", "copy the input"]
    arguments = ["--out", str(out), "--targets", toy["mood"], free, "--methods", *methods]
    assert (
        cli.main(["compare", str(compare_file), *arguments, "--adapt.test_rows", "8", "--shots", "2", "4"])
        == 0
    )
    results = json.loads((out / "results.json").read_text())
    assert {name: [(each["task"], each["shots"]) for each in row] for name, row in results.items()} == {
        "hard prompt": [("mood", None), ("free", None)],
        "largest class": [("mood", None)],
        "counting words": [("mood", 2), ("mood", 4)],
        "copy the input": [("free", None)],
    }
    assert results["copy the input"][0]["scores"] == [1.0]
    assert read_results(out / "mood" / "k4" / "counting_words")[0].remarks == []
    assert "| counting words | " in (out / "results.md").read_text()


def test_a_baseline_that_applies_to_no_target_has_no_line(free, capsys, compare_file):
    config = CompareConfig(targets=(free,), methods=("hard prompt", "linear probe"))
    assert [cell.method for cell in cells(config)] == ["hard prompt"]
    error = refused(capsys, "compare", str(compare_file), "--targets", free, "--methods", "linear probe")
    assert error == "mpt: compare: methods: no method here can answer any of the targets\n"
