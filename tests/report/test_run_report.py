"""What a run keeps for its report, and what the report says of it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from runs import adapted_run
from toys import refused, stage

from mpt import cli
from mpt.adaptation.result import read_results
from mpt.inference.answers import kept_answers
from mpt.report.costs import Total
from mpt.report.curves import curve_sections
from mpt.report.facts import Stage, facts
from mpt.report.run_report import report


def test_answers_make_the_score(adapted):
    """Sixteen rows are scored, and all are kept: their share of right ones is the accuracy."""
    (result,) = read_results(adapted)
    ((task, by_seed),) = kept_answers(adapted).items()
    assert task == "mood" and list(by_seed) == [0, 1]
    for score, rows in zip(result.scores, by_seed.values()):
        assert len(rows) == 16
        assert sum(row.is_correct for row in rows) / 16 == pytest.approx(score)
        assert {row.prediction for row in rows} <= {"good", "bad"}
        assert all(abs(sum(row.probabilities.values()) - 1) < 1e-3 for row in rows)
        assert all(row.confidence == max(row.probabilities.values()) for row in rows)


def test_cost_is_that_of_the_steps(universal):
    found = facts(universal)
    assert [stage.name for stage in found.stages] == ["teachers", "universal"]
    teachers, student = (stage.spending for stage in found.stages)
    assert teachers and student
    assert teachers.trained == 2 * 4 * 32  # two prompts of four vectors
    assert student.trained == 4 * 32 + 2 * (4 + 32)
    assert student.flops > teachers.flops  # which reads its batch once
    total = Total.of(found.stages)
    assert total.flops == pytest.approx(12 * (teachers.flops + student.flops))
    assert total.rows == 2 * 12 * 8
    card = found.cards["universal"]
    assert found.stages[1].seconds == pytest.approx(card.metrics["training seconds"], rel=0.05)


def test_pretraining_has_a_curve_of_each_task(universal):
    text = (universal / "report.html").read_text()
    assert "universal: task loss on each task" in text
    (stage,) = [stage for stage in facts(universal).stages if stage.name == "universal"]
    assert {"task tone", "task colour"} <= {key for line in stage.lines for key in line}


def test_many_tasks_have_several_figures(tmp_path):
    lines = [{"step": step, "loss": 1.0} | {f"task t{i:02}": 1.0 for i in range(20)} for step in (1, 2)]
    (section,) = curve_sections([Stage("universal", lines, None)])
    assert str(section.blocks).count("universal: task loss on each task") == 3


def test_report_is_written_anew(adapted, tmp_path, capsys):
    run = shutil.copytree(adapted, tmp_path / "run")
    (run / "report.html").unlink()
    assert cli.main(["report", str(run)]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
    text = (run / "report.html").read_text()
    assert "finished." in text and "mood" in text and text.endswith("</html>\n")


def test_run_that_was_interrupted_says_how_far_it_came(universal, tmp_path):
    run = shutil.copytree(universal, tmp_path / "run")
    shutil.rmtree(run / "prompts")
    (run / "machine.json").unlink()
    file = run / "universal" / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:5]) + '{"step": 6, "lo')
    text = report(run).read_text()
    assert "not finished: universal is at step 5 of 12." in text
    assert "5 of 12" in text and "Prompts</h2>" not in text


def test_run_of_before_has_a_report_without_what_it_did_not_keep(universal, tmp_path):
    run = shutil.copytree(universal, tmp_path / "run")
    for name in ("teachers/cost.json", "universal/cost.json", "machine.json"):
        (run / name).unlink()
    text = report(run).read_text()
    assert "has no record of its costs" in text and "transformers" in text


def test_imported_run_has_a_report_of_its_prompts(tiny_model, tmp_path):
    text = report(adapted_run(tmp_path / "made", tiny_model)).read_text()
    assert "Made by hand" in text and "Learning curves" not in text


@pytest.fixture(scope="module")
def small_comparison(tmp_path_factory, compare_file) -> tuple[Path, str]:
    """The run directory of a comparison of two methods, one step each, and what it printed."""
    folder = tmp_path_factory.mktemp("comparison")
    plain = json.loads(compare_file.read_text())
    once = stage(1)
    plain["pretrain"] |= {"teachers": once, "universal": once}
    plain["adapt"] |= {"train": once, "validate_every": 0}
    plain |= {
        "methods": ["hard prompt", "universal prompt, adapted", "copy the input"],
        "out": str(folder / "run"),
    }
    (folder / "compare.yaml").write_text(json.dumps(plain))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(["compare", str(folder / "compare.yaml")]) == 0
    return folder / "run", printed.getvalue()


def test_comparison_leads_to_its_runs(small_comparison):
    run, printed = small_comparison
    assert "report.html" in printed
    text = (run / "report.html").read_text()
    links = re.findall(r'<a href="([^#"][^"]*)"', text)
    assert "pretrain/report.html" in links and len(links) == 3
    assert all((run / link).is_file() for link in links)
    assert "<p>2 methods on mood, on " in text and "copy the input" not in text.partition("Config</h2>")[0]
    assert "<td>mood</td>" in text


def test_unfinished_comparison_tells_what_is_there(small_comparison, tmp_path):
    whole, _ = small_comparison
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "mood" / "universal_prompt_adapted")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(whole), str(run)))
    assert "1 of 2 adaptations are finished" in report(run).read_text()


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert "no run directory" in refused(capsys, "report", str(tmp_path))
    assert json.dumps([*tmp_path.iterdir()]) == "[]"
