"""Ctrl-C ends a command quietly with status 130, at whatever moment it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from toys import PATIENCE, ROOT, start_mpt

# Sends Ctrl-C to its own process when a module is about to be imported; a shell's background job ignores it.
PROGRAM = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)

class Moment:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Moment())
sys.argv = ["mpt", "adapt", "--task", {task!r}, "--out", {out!r}]
from mpt.cli import main
sys.exit(main())
"""
# From the first import that follows upon the command's own, in the order in which they come.
MOMENTS = (
    "mpt.errors",
    "mpt.system.signals",
    "tyro",
    "mpt.commands.train",
    "mpt.config.methods",
    "ruamel.yaml",
    "numpy",
    "pyarrow",
    "mpt.recipes.checks",
    "mpt.system.said",
    "jax",
)


def run(program: str, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program, *options], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )


def check_quiet(status: int, said: str) -> None:
    assert status == 130, said
    assert all(not line or line.startswith("mpt: ") for line in said.splitlines()), said


@pytest.mark.parametrize("module", MOMENTS)
def test_while_libraries_are_imported(module, toy, tmp_path):
    process = run(PROGRAM.format(module=module, task=toy["mood"], out=str(tmp_path / "run")))
    check_quiet(process.returncode, process.stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.full
@pytest.mark.parametrize(
    "moment", ["loading the libraries", "reading the model", "compiling the first step", "4/4"]
)
def test_while_a_command_works(moment, toy, tiny_model, tmp_path):
    options = "--train.steps", "4", "--max-length", "24", "--no-baselines"
    names = "--task", toy["mood"], "--model.name", str(tiny_model), "--out", str(tmp_path / "run")
    process, said = start_mpt("adapt", *names, *options), ""
    while moment not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    status, rest = process.wait(PATIENCE), process.stderr.read()
    assert status == 130
    assert "Traceback" not in rest and "Exception ignored" not in rest, rest


def test_in_a_destructor_which_would_swallow_it():
    program = (
        "import os, signal\n"
        "from mpt.system.interrupts import quiet_on_interrupt\n"
        "quiet_on_interrupt()\n"
        "class Held:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "held = Held(); del held; print('went on')"
    )
    process = run(program)
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")


def test_twice_amid_a_computation_that_no_handler_interrupts():
    """As a step that is compiled: Python's own handlers would run when it is through."""
    program = (
        "import hashlib, os, signal, threading, time\n"
        "from mpt.system.interrupts import quiet_on_interrupt\n"
        "from mpt.system.said import speak\n"
        "from mpt.system.signals import deferred\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "quiet_on_interrupt(); speak()\n"
        "def press():\n"
        "    for _ in range(2): time.sleep(0.5); os.kill(os.getpid(), signal.SIGINT)\n"
        "with deferred():\n"
        "    threading.Thread(target=press).start()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    )
    process = run(program)
    check_quiet(process.returncode, process.stderr)
    assert process.stderr.splitlines() == [
        "mpt: stopping after this step; a second Ctrl-C stops at once",
        "mpt: interrupted; the same command resumes from the last checkpoint",
    ]


def test_what_is_to_outlive_its_terminal_is_left_alone():
    """As nohup starts it: Ctrl-C is ignored."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from mpt.system.interrupts import end_on_interrupt, quiet_on_interrupt\n"
        "quiet_on_interrupt(); end_on_interrupt()\n"
        "os.kill(os.getpid(), signal.SIGINT); print('went on')"
    )
    assert run(program).stdout == "went on\n"


def test_the_handlers_of_a_program_that_calls_mpt_stay():
    program = (
        "import signal; before = signal.getsignal(signal.SIGINT)\n"
        "from mpt.cli import commands, main; from mpt.commands import Work\n"
        "def interrupted(): raise KeyboardInterrupt\n"
        "commands()['report'] = lambda rest: Work(interrupted)\n"
        "assert main(['report']) == 130\n"
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    assert run(program).returncode == 0


LOST = """
import signal, sys, time
from mpt import cli
from mpt.system.signals import stops_on_sigterm

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["mpt", "--version"]

def works(*_, **__):
    with stops_on_sigterm():
        try:
            signal.raise_signal(signal.{signal})
        {then}
        time.sleep(20)
        print("it went on")

cli._obey = works
sys.exit(cli.main())
"""


@pytest.mark.full
def test_where_a_library_drops_it():
    """As JAX does while it hashes the keys of its programs."""
    process = run(LOST.format(signal="SIGINT", then="except KeyboardInterrupt: pass"))
    check_quiet(process.returncode, process.stderr)
    assert not process.stdout


@pytest.mark.full
def test_where_a_library_drops_a_clusters_signal():
    process = run(LOST.format(signal="SIGTERM", then="except SystemExit: pass"))
    assert "stopped as requested (SIGTERM)" in process.stderr and "Traceback" not in process.stderr
    assert not process.stdout and process.returncode == 143


@pytest.mark.parametrize(("sign", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_status_tells_of_the_signal_however_long_an_exit_takes(sign, status):
    """It was that of the alarm that raises a signal again, when Python had put the handlers away."""
    exits = "signal.signal(signal.SIGALRM, signal.SIG_DFL), time.sleep(3)"
    program = LOST.format(signal=sign, then=f"finally: __import__('atexit').register(lambda: ({exits}))")
    assert run(program).returncode == status


@pytest.mark.full
def test_what_is_put_in_order_meanwhile_is_left_to_its_work():
    process = run(LOST.format(signal="SIGINT", then='finally: time.sleep(2); print("in order")'))
    check_quiet(process.returncode, process.stderr)
    assert process.stdout == "in order\n"
