"""What is shown of a stage's progress, where it is shown."""

import re
import sys
from types import SimpleNamespace

import pytest

from mpt.system import progress
from mpt.system.progress import Progress


@pytest.fixture
def cell(monkeypatch):
    """A notebook's cell: what was shown in it, one after another."""
    shown = []

    def show(bars):
        shown.append(bars._repr_mimebundle_([], [])["text/plain"])

    def display(bars, display_id):
        show(bars)
        return SimpleNamespace(update=show)

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "DRAWN_EVERY", 0.0)
    return shown


def test_notebook_shows_one_bar_that_grows(cell, capsys):
    with Progress("run: stage", 3, done=1) as bar:
        bar.step("loss 2.000")
        bar.step("loss 1.000")
    assert [("1/3" in text, "2/3" in text, "3/3" in text) for text in cell] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    assert "run: stage" in cell[-1] and "loss 1.000" in cell[-1]
    assert capsys.readouterr() == ("", "")


def test_notebook_shows_nothing_of_what_is_finished(cell):
    with Progress("run: stage", 3, done=3):
        pass
    assert cell == []


def test_log_has_lines_with_the_time_left(capsys, monkeypatch):
    """A person's units; the first step compiles, so the time after it counts."""
    times = iter([0.0, 600.0, 640.0, 680.0, 720.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with Progress("run: stage", 4) as bar:
        for loss in (4, 3, 2, 1):
            bar.step(f"loss {loss}")
    assert capsys.readouterr().err.splitlines() == [
        "run: stage: 1/4, loss 4",
        "run: stage: 2/4, loss 3, 1.3 min left",
        "run: stage: 3/4, loss 2, 40 s left",
        "run: stage: 4/4, loss 1",
    ]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("title", ["run: stage", "mood/prompt_tuning_from_instruction: adapt"])
def test_nothing_of_a_bar_is_cut_on_a_terminal(columns, title, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress(title, 1000, 995) as bar:
        bar.step("loss 0.573, 1168.4 rows/s")
        bar.step("loss 0.573, 1168.4 rows/s")
    shown = capsys.readouterr().err
    assert "…" not in shown and all(word in shown for word in title.split())
    assert re.search(r"997/1000 loss 0.573, 1168.4 rows/s \d:\d\d:\d\d", shown)
