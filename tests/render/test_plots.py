"""Figures are the same file each time, and lie in a page without disturbing it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mpt.render.plots import (
    _characters,
    _font_with,
    colour_and_mark,
    counting_axis,
    figure,
    heat_map,
    inline,
    legend,
    line,
    panels,
    save,
)


def drawn():
    picture, axes = figure()
    line(axes, 0, "universal", [4, 16, 32], [70.0, 80.0, 85.0], [65.0, 78.0, 84.0], [75.0, 82.0, 86.0])
    axes.legend()
    return picture


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_same_figure_same_file(tmp_path, kind):
    for name in "ab":
        save(drawn(), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_two_figures_in_one_page_share_no_name():
    first, second = inline(drawn(), "one"), inline(drawn(), "two")
    names = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second)]
    assert names[0] and not names[0] & names[1]


def test_inline_figures_take_the_colour_of_their_page():
    text = inline(drawn(), "a < b")
    assert ElementTree.fromstring(text).get("aria-label") == "a < b"
    assert "#000000" not in text and 'fill="currentColor"' in text


def test_inline_figures_shrink_to_any_page_and_grow_to_their_own_size():
    style = ElementTree.fromstring(inline(drawn(), "one")).get("style")
    assert style == f"max-width: {round(96 * 6.4)}px; overflow: visible"


@pytest.mark.parametrize("last", [1, 2, 3, 6, 7, 40, 1000])
def test_ticks_of_steps_are_whole_numbers(last):
    _, axes = figure()
    line(axes, 0, "a", [0, last], [0.0, 1.0])
    counting_axis(axes)
    ticks = axes.get_xticks()
    assert len(ticks) > 1
    assert all(float(tick).is_integer() for tick in ticks)


def test_heat_map_leaves_unknown_cells_empty():
    _, axes = figure()
    heat_map(axes, np.array([[1.0, np.nan], [2.0, 3.0]]), ["a", "b"], ["c", "d"])
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]


def test_panels_share_one_list_of_names():
    picture, grid = panels(4, max_columns=3)
    assert len(grid) == 4 and len({axes.get_ylim() for axes in grid}) == 1
    for place, axes in enumerate(grid):
        line(axes, 0, "in all", [1, 2], [1, 2])
        line(axes, place + 1, f"in {place}", [1, 2], [2, 1])
    legend(picture)
    assert [text.get_text() for text in picture.legends[0].get_texts()] == [
        "in all",
        *(f"in {place}" for place in range(4)),
    ]


def test_lines_are_told_apart():
    assert len({colour_and_mark(place) for place in range(64)}) == 64


NAMES = [
    "积极",
    "とても",
    "매우",
    "सकारात्मक",
    "إيجابي",
    "очень",
    "ดีมาก",
    "😀",
    "cost $5 and $6",
    r"$\\bad$",
    "a\tb",
]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_names_in_any_script_are_drawn_without_a_word(tmp_path, kind, recwarn, caplog):
    picture, axes = figure()
    heat_map(axes, np.eye(len(NAMES)), NAMES, NAMES)
    for place, name in enumerate(NAMES):
        line(axes, place, name, [0, 1], [0, 1])
    legend(picture)
    save(picture, tmp_path / f"a.{kind}")
    inlined = inline(picture, "any")
    assert not recwarn.list and not caplog.records
    if kind == "svg":
        for text in (inlined, (tmp_path / "a.svg").read_text(encoding="utf-8")):
            words = [each for each in ElementTree.fromstring(text).itertext() if each.strip()]
            assert all(words.count(name) == 3 for name in NAMES), words


def test_a_font_of_last_resort_is_none():
    assert _font_with("\u0915") != "Last Resort High-Efficiency"
    assert _font_with("я") == ""  # Matplotlib's own has it
    assert _characters("gone.ttf") == frozenset()


def test_an_installed_font_is_taken_for_what_the_own_one_lacks(tmp_path, monkeypatch):
    picture, axes = figure()
    axes.set_title("Ꝗ")
    monkeypatch.setattr("mpt.render.plots._font_with", lambda character: "STIXGeneral")
    save(picture, tmp_path / "a.svg")
    assert "STIXGeneral" in (tmp_path / "a.svg").read_text(encoding="utf-8")
