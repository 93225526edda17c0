"""`mpt inspect` on finished runs of every kind."""

from __future__ import annotations

import re

import numpy as np
import pytest
from runs import adapted_run, universal_run
from toys import refused, write_task

from mpt import cli
from mpt.insight.findings import Findings
from mpt.recipes.inspect import inspect


@pytest.fixture(scope="module")
def universal_found(universal) -> Findings:
    return inspect(universal, rows=8)


def test_a_pretraining_has_teachers_and_a_universal_prompt(universal, universal_found):
    names = ["tone, teacher", "colour, teacher", "tone, universal", "colour, universal"]
    assert [subject.name for subject in universal_found.subjects] == names
    assert set(universal_found.variance_shares) == {"teachers", "universal"}
    assert set(universal_found.ranks) == {"universal"}
    assert [universal_found.subjects[study.subject].name for study in universal_found.studies] == names[2:]
    assert universal_found.transfer and universal_found.transfer.scores.shape == (4, 2)
    assert universal_found.missing == []
    page = (universal / "inspect.html").read_text()
    for part in ("Nearest tokens", "Norms", "Similarity", "Map", "Shared and own", "Transfer", "labels look"):
        assert part in page
    assert page.endswith("</html>\n")


def test_transfer_equals_evaluate(universal, universal_found, toy):
    """The same rows, the same prompt: the same figure."""
    from mpt.inference.predict import evaluate

    wanted = evaluate(universal, toy["colour"], "validation", 8, 0)["accuracy"]
    assert universal_found.transfer and universal_found.transfer.scores[3, 1] == pytest.approx(wanted)


def test_an_adaptation_has_a_prompt_per_seed(adapted, toy, tmp_path, capsys):
    out = tmp_path / "page.html"
    arguments = ["inspect", str(adapted), "--rows", "4", "--targets", toy["tone"], "--out", str(out)]
    assert cli.main(arguments) == 0
    told = " ".join(capsys.readouterr().out.split())  # as the screen's width breaks it
    for text in ("mood, seed 0", "mood, seed 1", "nats on 4 validation rows", "tone", str(out)):
        assert text in told
    assert out.is_file() and not (adapted / "inspect.html").exists()


def test_without_rows_only_vectors_are_told(tiny_model, tmp_path, capsys):
    run = universal_run(tmp_path / "made", tiny_model)
    assert cli.main(["inspect", str(run), "--rows", "0"]) == 0
    assert "--rows 0" in capsys.readouterr().out
    page = (run / "inspect.html").read_text()
    assert "Nearest tokens" in page and "Transfer" not in page and "Left out" in page
    own = page.partition('aria-label="Share of the tasks')[2].partition("</svg>")[0]
    assert re.findall(r">([\d.]+)</text>", own)[:4] == ["0", "1", "2", "3"]  # the positions


def test_what_needs_data_is_left_out_with_the_reason(tiny_model, tmp_path):
    """The config of this run names a task whose file is gone."""
    run = adapted_run(tmp_path / "made", tiny_model)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("task: ''", "task: nowhere/tone.yaml"))
    found = inspect(run, rows=4)
    assert found.studies == [] and found.transfer is None
    assert "nowhere/tone.yaml" in found.missing[0]
    again = inspect(run, rows=4, targets=[str(write_task(tmp_path, "tone"))])
    assert again.missing == [] and len(again.studies) == 2 and again.transfer is not None
    assert np.isfinite(again.transfer.scores).all()


def test_prompts_that_are_more_than_vectors_are_refused(
    universal, config_file, plain_adapt, tmp_path, capsys
):
    keys = {"out": str(tmp_path / "run"), "method": "lora", "lora": {"rank": 1}, "validate_every": 0}
    stage = plain_adapt["train"] | {"steps": 1}
    assert cli.main(["adapt", config_file(plain_adapt | keys | {"train": stage})]) == 0
    assert "lora" in refused(capsys, "inspect", str(tmp_path / "run"))
    assert "rows: it must be 0 or more, not -1" in refused(capsys, "inspect", str(universal), "--rows", "-1")
    assert "no run directory" in refused(capsys, "inspect", str(tmp_path))
