"""Signals are put off, and not lost."""

import os
import signal
import threading

import pytest

from mpt.commands import Work
from mpt.system.signals import Stopped, deferred, stops_on_sigterm


def test_second_signal_acts_at_once():
    with stops_on_sigterm(), pytest.raises(Stopped), deferred() as asked:
        assert asked() == 0
        signal.raise_signal(signal.SIGTERM)
        assert asked() == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)


def test_signal_that_nobody_has_seen_acts_at_the_end():
    done = []
    with stops_on_sigterm(), pytest.raises(Stopped, match="as requested"), deferred():
        signal.raise_signal(signal.SIGTERM)
        done.append(True)
    assert done


def test_threads_leave_signals_alone():
    def work():
        with deferred() as asked:
            seen.append(asked())

    seen, before = [], signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("command", ["pretrain", "adapt", "compare", "continual"])
def test_command_that_trains_ends_quietly_on_sigterm(capsys, monkeypatch, command):
    from mpt import cli

    work = Work(lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setitem(cli.commands(), command, lambda rest: work)
    assert cli.main([command]) == 143
    assert capsys.readouterr().err == (
        "mpt: stopped as requested (SIGTERM); the same command continues with what is not finished\n"
    )


def test_full_disk_is_one_line(capsys, monkeypatch):
    from mpt import cli

    def full():
        raise OSError(28, "No space left on device", "runs/x/metrics.jsonl")

    monkeypatch.setitem(cli.commands(), "adapt", lambda rest: Work(full))
    assert cli.main(["adapt"]) == 2
    line = (
        "mpt: runs/x/metrics.jsonl: No space left on device; with more free space, the same command resumes\n"
    )
    assert capsys.readouterr().err == line
