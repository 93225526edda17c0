"""What a comparison makes of results: averages, differences, tables and figures, of made-up results."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest

from mpt.comparison import tables
from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import ENTRIES, OURS, SCRATCH, Cell, cells
from mpt.comparison.estimates import Comparison, head_start, interval, paired
from mpt.comparison.figures import figures
from mpt.metrics.interval import FOLDS, average
from mpt.recipes.adapt import Result

LEVELS = {method: 0.6 + 0.02 * place for place, method in enumerate(ENTRIES)}
HARD, NOISE = (row - row.mean() for row in np.random.default_rng(0).normal(0, 0.2, (2, FOLDS)))
FOR_CLASSES = [method for method in ENTRIES if method != "copy the input"]


def result(method: str, target: str = "movies", **keys) -> Result:
    """Three seeds that differ a little, if the method is trained; rows hard for all methods alike."""
    seeds = np.array([[-0.01], [0.0], [0.01]] if ENTRIES[method].trained else [[0.0]])
    parts = LEVELS[method] + seeds + HARD + 0.1 * NOISE * (1 + ENTRIES[method].universal)
    scores, steps = parts.mean(axis=1).tolist(), 12 if ENTRIES[method].tuned else 0
    curve = [(0, 0.5), (6, 0.7), (12, LEVELS[method])] if steps else []
    plain = {"parameters": 9216, "steps": steps, "seconds": 3.0 * steps, "curve": curve}
    return Result(target, "accuracy", scores, 500, **plain | {"parts": parts.tolist()} | keys)


def comparison(**keys) -> Comparison:
    config = CompareConfig(**{"targets": ("movies", "editorials"), "methods": tuple(ENTRIES), **keys})
    return Comparison.of(config, 10**6, {cell: result(cell.method, cell.target) for cell in cells(config)})


def test_what_is_hard_for_both_cancels_out_of_a_difference():
    ours, other = result(OURS), result("SPoT")
    found = paired(other, ours)
    assert found.mean == pytest.approx(LEVELS["SPoT"] - LEVELS[OURS])
    assert found.half < 0.1 * interval(ours).half


def test_what_has_one_seed_stands_against_each_of_the_others():
    ours, hard = result(OURS), result("hard prompt")
    found = paired(hard, ours)
    expected = interval(result(OURS, parts=(np.array(ours.parts) - hard.parts).tolist()))
    assert found.mean == pytest.approx(LEVELS["hard prompt"] - LEVELS[OURS], abs=0.01)
    assert (found.variance, found.freedom) == pytest.approx((expected.variance, expected.freedom))


def test_results_of_before_have_intervals_over_seeds():
    found = interval(result(OURS, parts=[]))
    assert found.freedom == pytest.approx(2)
    assert found.half == pytest.approx(4.3027 * 0.01 / np.sqrt(3), rel=1e-4)
    assert np.isnan(interval(result("hard prompt", parts=[])).half)
    assert paired(result("SPoT", parts=[]), result(OURS)).half == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("rows", [2, 22, 500])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_does_not_vary_has_wilsons_interval(seeds, rows, share):
    """All of 21 rows right is no proof that all others would be; in an average over targets neither."""
    parts = [[share] * min(rows, FOLDS)] * seeds
    alike = replace(result(OURS), scores=[share] * seeds, parts=parts, rows=rows)
    found = interval(alike)
    wilson = binomtest(round(share * rows), rows).proportion_ci(method="wilson")
    assert 0.0 <= found.low <= wilson.low + 1e-9
    assert 1.0 >= found.high >= wilson.high - 1e-9
    assert found.high - found.low == pytest.approx(wilson.high - wilson.low)
    assert average([found, found]).half == pytest.approx(found.half / np.sqrt(2))
    nothing = binomtest(0, rows).proportion_ci(method="wilson").high
    assert (paired(alike, alike).low, paired(alike, alike).high) == pytest.approx((-nothing, nothing))


def two_draws(*scores: float) -> Result:
    """Draws far apart, on many rows that differ little."""
    parts = (np.array(scores)[:, None] + 0.1 * HARD).tolist()
    return replace(result(OURS), scores=list(scores), parts=parts)


def test_two_draws_far_apart_stand_in_place_of_an_interval():
    """Their interval by Student's t would be [0.0, 100.0]: it tells nobody anything."""
    found = interval(two_draws(0.45, 0.85))
    assert tables.in_percent(found) == "65.0 (45.0, 85.0)"
    assert tables.in_percent(found, 0) == "65.0 (45, 85)"
    close = tables.in_percent(interval(two_draws(0.6, 0.601)))
    assert close.startswith("60.1 [5") and close.endswith("]")
    less = paired(two_draws(0.40, 0.70), two_draws(0.45, 0.85))
    assert tables.in_percent(less) == "-10.0 (-5.0, -15.0)"


def test_tables_and_pictures_show_two_draws_that_are_far_apart():
    there = {Cell(OURS, "movies", 4): two_draws(0.45, 0.85), Cell("LoRA", "movies", 4): two_draws(0.6, 0.601)}
    config = CompareConfig(targets=("movies",), methods=("LoRA", OURS), shots=(4,))
    found = Comparison.of(config, 10**6, there)
    lora, ours = (line for line in csv.DictReader(io.StringIO(tables.as_csv(found))) if line["n"])
    assert (ours["low"], ours["high"], ours["std"]) == ("", "", "28.28")
    assert lora["low"] and lora["difference"] == "-4.9500" and lora["difference_low"] == ""
    page = tables.as_markdown(found, [tables.caption(found, None)])
    assert "| 65.0 (45.0, 85.0) |" in page and "-5.0 (15.0, -24.9)" in page
    assert "In parentheses are the scores of the draws" in page
    calm = Comparison.of(config, 10**6, {cell: two_draws(0.6, 0.601) for cell in there})
    assert "parentheses" not in tables.caption(calm, None)
    assert len(list(figures(found))) == 3


@pytest.mark.parametrize("metric", ["pearson", "accuracy"])
def test_what_is_undefined_has_no_figure(metric):
    """Neither in tables nor in files, which stay JSON."""
    nothing = replace(
        result(OURS),
        metric=metric,
        scores=[np.nan, 0.5, 0.6],
        parts=[[level] * FOLDS for level in (np.nan, 0.5, 0.6)],
    )
    assert tables.in_percent(interval(nothing)) == tables.in_percent(paired(nothing, result("LoRA"))) == "–"
    config = CompareConfig(targets=("movies",), methods=("LoRA", OURS), shots=(4,))
    there = {
        Cell(OURS, "movies", 4): nothing,
        Cell("LoRA", "movies", 4): replace(result("LoRA"), metric=metric),
    }
    found = Comparison.of(config, 10**6, there)
    plain = json.loads(tables.as_json(found), parse_constant=pytest.fail)
    assert plain[OURS][0]["scores"] == [None, 0.5, 0.6]
    assert "nan" not in tables.as_csv(found) + tables.as_markdown(found, [tables.caption(found, None)])
    assert len(list(figures(found))) == 3


def test_differences_stay_within_what_two_figures_can_differ_by():
    """A few rows have wide intervals: a difference of 80 may not become one of more than 100."""
    best = replace(result(OURS), scores=[0.9, 0.9], parts=[[1.2, 0.6], [0.9, 0.9]], rows=4)
    worst = replace(best, scores=[0.1, 0.1], parts=[[-0.2, 0.4], [0.1, 0.1]])
    assert (paired(best, worst).high, paired(worst, best).low) == (1.0, -1.0)


def test_steps_are_whole_numbers_on_every_axis():
    for _, _, drawn in figures(comparison(shots=(4,))):
        for axes in drawn.axes:
            if axes.get_xlabel() == "step":
                axes.set_xlim(0, 3)
                assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_average_waits_for_all_targets():
    config = CompareConfig(targets=("movies", "editorials"), methods=(OURS, "LoRA"), shots=(4,))
    found = Comparison.of(config, 10**6, {Cell(OURS, "movies", 4): result(OURS)})
    assert found.mean(OURS, 4) is None and found.difference("LoRA", 4) is None
    headings, ours, lora = tables.table(found, 4)
    assert headings[1:4] == ["movies accuracy (n=500)", "steps to 80%", "editorials"]
    assert headings[4:6] == ["average", f"minus {OURS}"]
    assert ours[1].startswith(f"{100 * LEVELS[OURS]:.1f} ") and ours[3] == ours[4] == ""
    assert lora[1:] == ["", "–", "", "", "", "", "", "", ""]
    assert len([*csv.DictReader(io.StringIO(tables.as_csv(found)))]) == 1
    assert not [*Comparison.of(config, 10**6, {}).results] and tables.caption(found, None)


def test_differences_are_taken_from_the_reference():
    found = comparison(methods=("LoRA", "SPoT"), reference="SPoT", targets=("movies", "editorials", "bbc"))
    headings, lora, spot = tables.table(found, 16, short=True)
    assert headings[2] == "minus SPoT" and spot[2] == ""
    assert lora[2].startswith(f"{100 * (LEVELS['LoRA'] - LEVELS['SPoT']):.1f} [")


def test_many_targets_have_a_line_each():
    names = tuple("abcdefg")
    found = comparison(methods=("LoRA", OURS), targets=names)
    averages, by_target = tables.written(found, 16)
    assert averages[0][:3] == ["method", "average", f"minus {OURS}"]
    assert by_target[0] == ["target", "metric", "n", "LoRA", OURS]
    assert [line[:3] for line in by_target[1:]] == [[name, "accuracy", "500"] for name in names]
    assert len(tables.written(comparison(), 16)) == 1
    page = tables.as_markdown(found, [])
    assert "| target | metric | n | LoRA |" in page and "| a | accuracy | 500 | " in page


def test_csv_has_a_line_for_each_cell_and_average():
    lines = [*csv.DictReader(io.StringIO(tables.as_csv(comparison(shots=(4, 0)))))]
    assert {(line["method"], line["target"], line["k"]) for line in lines} == {
        (method, target, k)
        for method in FOR_CLASSES
        for target in ("movies", "editorials", "average")
        for k in ("4", "all")
    }
    lora = next(line for line in lines if line["method"] == "LoRA")
    assert (lora["n"], lora["seeds"], lora["steps_to_goal"], lora["percent_of_backbone"]) == (
        "500",
        "3",
        "12",
        "0.922",
    )
    assert float(lora["std"]) == pytest.approx(1.0)
    assert float(lora["difference"]) == pytest.approx(100 * (LEVELS["LoRA"] - LEVELS[OURS]), abs=0.5)


@pytest.mark.parametrize("targets", [("movies", "editorials"), ("movies", "editorials", "bbc", "sarcasm")])
def test_printed_table_fits_80_columns(targets):
    screen = io.StringIO()
    lines = tables.table(comparison(targets=targets, methods=CompareConfig().methods), 16, short=True)
    Console(file=screen, width=80).print(tables.printed(lines, "", ""))
    text = screen.getvalue()
    assert "…" not in text
    for word in ("instruction", "editorials" if len(targets) == 2 else "average", "seconds", "9,216"):
        assert word in text


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([(0, 0.9), (10, 0.9)], (True, 0.0)),
        ([(0, 0.6), (5, 0.85), (10, 0.7)], (True, 0.25)),
        ([(0, 0.6), (10, 0.84)], (False, 0.0)),
        ([], None),
    ],
)
def test_head_start_is_over_the_better_prompt_from_scratch(ours, expected):
    curves = {SCRATCH[0]: [(0, 0.9), (20, 0.8)], SCRATCH[1]: [(0, 0.5), (20, 0.85)], OURS: ours}
    found = {Cell(name, "movies", 16): result(name, curve=curve) for name, curve in curves.items()}
    config = CompareConfig(targets=("movies",), methods=tuple(curves))
    assert head_start(Comparison.of(config, 1, found), "movies", 16) == expected


def test_without_steps_there_is_no_head_start():
    """Validation rows are looked at before the first step, also where it is the last."""
    found = {Cell(name, "movies", 16): result(name, curve=[(0, 0.5)], steps=0) for name in (OURS, *SCRATCH)}
    compared = Comparison.of(CompareConfig(targets=("movies",), methods=(OURS, *SCRATCH)), 1, found)
    assert head_start(compared, "movies", 16) is None
    assert "after this share of the steps" not in tables.caption(compared, None)
    assert tables.as_csv(compared) and list(figures(compared))


def test_every_figure_names_every_method_once():
    found = {name: drawn for name, _, drawn in figures(comparison(shots=(4, 0)))}
    assert list(found) == ["shots", "parameters", "seconds", "curves_4", "curves_all"]
    for name, drawn in found.items():
        named = [text.get_text() for text in drawn.legends[0].get_texts()]
        assert named == [method for method in FOR_CLASSES if ENTRIES[method].tuned or "curves" not in name]


def test_figures_and_tables_go_from_few_examples_to_all_whatever_ran_first():
    found = comparison(shots=(16, 0, 4))
    drawn = {name: drawn for name, _, drawn in figures(found)}
    (axes,) = drawn["shots"].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "16", "all"]
    assert [axes.get_title() for axes in drawn["parameters"].axes] == ["k = 4", "k = 16", "all rows"]
    headings = [line for line in tables.as_markdown(found, []).splitlines() if line.startswith("## ")]
    assert headings == ["## k = 4", "## k = 16", "## all rows"]


def test_figures_of_what_has_no_curve_are_left_out():
    assert [name for name, _, _ in figures(comparison(methods=("hard prompt", "in-context examples")))] == [
        "parameters",
        "seconds",
    ]
