"""On a terminal, what is said breaks between words, and a command to paste not at all."""

import io
import os
import termios

import pytest

from mpt import cli, errors
from mpt.errors import install, show, warn
from mpt.system import said

COLUMNS = 40


@pytest.fixture
def narrow(monkeypatch):
    """A narrow terminal in place of what a test's output goes to."""
    monkeypatch.setattr(errors, "columns_of", lambda stream: COLUMNS)


TEXT = "task mood has 3 training rows of 'glad', 12 of 'sad', not 16; all are used"


def fail(text: str) -> None:
    assert cli.main(["adapt", "few_shot", "--task", text]) == 2


def aloud(text: str) -> None:
    said.speak()
    said.say(text)
    said.speak(False)


@pytest.mark.parametrize("says", [warn, show, aloud, fail])
def test_no_word_is_broken_on_a_terminal(says, narrow, capsys):
    says(TEXT)
    said = [line.rstrip() for line in "".join(capsys.readouterr()).splitlines()]
    assert len(said) > 1 and max(map(len, said)) <= COLUMNS
    assert TEXT in " ".join(said)


def test_a_command_to_paste_stays_in_one_line(narrow, capsys):
    warn(f"the package gcsfs is not here: {install('gcs')}, then the same command again")
    command = install("gcs").partition(", ")[2]
    assert command in [line.rstrip(",") for line in capsys.readouterr().err.splitlines()]


def test_elsewhere_a_line_stays_one(capsys):
    warn(TEXT)
    show(TEXT)
    assert capsys.readouterr() == (f"{TEXT}\n", f"mpt: warning: {TEXT}\n")
    assert errors.columns_of(io.StringIO()) == 0


def test_a_terminal_says_how_wide_it_is():
    ends = os.openpty()
    termios.tcsetwinsize(ends[1], (24, COLUMNS))
    with os.fdopen(ends[1], "w") as stream:
        assert errors.columns_of(stream) == COLUMNS
    os.close(ends[0])
